"""What each licence that a source may carry allows: whether its images may be passed on.

A licence that is not listed here allows nothing. This is no legal advice: terms are quoted on the cards of the sources.
"""

REDISTRIBUTABLE: dict[str, bool] = {
    "CC0-1.0": True,
    "CC-BY-4.0": True,
    "CC-BY-SA-4.0": True,
    "Apache-2.0": True,
    "MIT": True,
    "LicenseRef-NIH-CXR14": True,  # unrestricted, with attribution
    "LicenseRef-RSNA-2018": True,  # with attribution
    "PhysioNet-Credentialed-1.5.0": False,
    "LicenseRef-Stanford-CheXpert": False,
    "LicenseRef-PathVQA": False,  # the publishers of the textbooks hold the rights in the images
    "LicenseRef-unknown": False,
}


def may_pass_on(licence: str) -> bool:
    """Whether images under `licence` may be redistributed."""
    return REDISTRIBUTABLE.get(licence, False)
