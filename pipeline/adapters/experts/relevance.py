"""How much an annotated region has to do with a question, from words and sides alone.

Looks up words; understands nothing. It may read the gold answer, which is why only a privileged expert and the audit of
experts may call it.
"""

import re
from collections.abc import Iterator

ASKED, FINDING, NORMAL = 0.95, 0.5, 0.25

NORMAL_PROVENANCES = frozenset({"anatomy", "distractor"})
NORMAL_STRUCTURES = frozenset(
    (
        *("abdomen", "adrenal gland", "aorta", "bladder", "bone", "brain", "brain stem", "brain tissue", "bronchus"),
        *("cerebellum", "chest", "clavicle", "clip", "colon", "diaphragm", "duodenum", "esophagus", "eye", "face"),
        *("femoral head", "gallbladder", "head", "heart", "hilum", "intestine", "kidney", "large bowel", "larynx"),
        *("liver", "lung", "mandible", "mediastinum", "neck", "optic nerve", "pancreas", "parotid", "pelvic cavity"),
        *("pelvis", "prostate", "pulmonary bronchus", "rectum", "rib", "rib crossing", "small bowel", "spinal cord"),
        *("spine", "spleen", "stomach", "temporal lobe", "trachea", "uterus", "vertebra"),
    )
)
SYNONYMS = (  # within a label, each may stand for the others of its row
    ("atelectasis", "atelectases", "collapse"),
    ("calcification", "calcified"),
    ("cardiomegaly", "enlarged heart", "heart enlargement", "cardiac enlargement"),
    ("consolidation", "airspace disease", "airspace opacity"),
    ("edema", "oedema", "swelling"),
    ("effusion", "pleural effusion", "pleural fluid"),
    ("emphysema", "hyperinflation"),
    ("fibrosis", "scarring"),
    ("fracture", "broken bone"),
    ("infiltrate", "infiltration"),
    ("mass", "tumor", "tumour", "cancer", "neoplasm"),
    ("nodule", "nodular opacity", "coin lesion"),
    ("opacity", "opacities"),
    ("pneumothorax", "collapsed lung"),
)
_SIDE = re.compile(r"\b(left|right)\b")
_PARTS = re.compile(r"[/,;()]|\band\b|\bor\b")


def relevance(label: str, provenance: str, side: str, question: str, answer: str) -> float:
    """0.95 asked about, 0.5 another finding, 0.25 a normal structure; `side` is where the region lies, left or right.

    A region is asked about when its label or a synonym occurs in question or answer, unless the question names
    the other side alone; a finding also when its side is named, by the question alone or else by either.
    """
    sides = sides_named(question)
    is_elsewhere = len(sides) == 1 and side not in sides
    if is_named(label, f"{question} . {answer}") and not is_elsewhere:
        return ASKED
    if is_normal(label, provenance):
        return NORMAL
    if len(sides) != 1:
        sides = sides_named(answer) or sides
    return ASKED if side in sides else FINDING


def sides_named(text: str) -> frozenset[str]:
    return frozenset(_SIDE.findall(_plain(text)))


def is_named(label: str, text: str) -> bool:
    """Whether a part of the label, or a synonym of it, occurs in the text as whole words, singular or plural."""
    text = _plain(text)
    wordings = (wording for part in _parts(label) for wording in _wordings(part))
    return any(re.search(rf"(?<!\w){re.escape(wording)}(?:s|es)?(?!\w)", text) for wording in wordings)


def is_normal(label: str, provenance: str) -> bool:
    """Whether every part of the label is a structure that each body has; "lung cancer" is not "lung"."""
    names = list(_parts(label))
    return provenance in NORMAL_PROVENANCES or (bool(names) and all(map(_is_structure, names)))


def _is_structure(name: str) -> bool:
    return name in NORMAL_STRUCTURES or name.removesuffix("s") in NORMAL_STRUCTURES


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[_-]", " ", text.casefold()).split())


def _parts(label: str) -> Iterator[str]:
    """The names in a label ("Nodule/Mass"), without their sides."""
    for part in _PARTS.split(_plain(label)):
        if name := " ".join(_SIDE.sub(" ", part).split()):
            yield name


def _wordings(name: str) -> Iterator[str]:
    yield name
    for row in SYNONYMS:
        for word in row:
            if re.search(rf"\b{word}\b", name):
                yield from (re.sub(rf"\b{word}\b", other, name) for other in row if other != word)
