"""Questions for the tests of protocols: one of a source, with what the test is about."""

from schemas.records import Question

SCANS = ("CT scan", "MRI", "X-ray", "Ultrasound")


def asked(source: str = "vqa-rad", answer: str = "yes", kind: str = "open", **more: object) -> Question:
    return Question("q1", source, "test", ("image",), "What is shown?", answer, kind, **more)


def choice(source: str, answer: str = "MRI", options: tuple[str, ...] = SCANS) -> Question:
    return asked(source, answer, "choice", options=options)
