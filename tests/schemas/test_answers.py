import pytest

from schemas.answers import judge

MODALITIES = ("CT scan", "MRI", "X-ray", "Ultrasound")
RAW_PMC = (" A:Diffuse uptake pattern ", " B:Focal uptake pattern ", " C:No uptake pattern ", " D:Cannot determine ")


@pytest.mark.parametrize(
    ("gold", "response", "right"),
    [
        ("yes", "Yes", True),
        ("Yes", "yes.", True),  # SLAKE writes "Yes"; a case-sensitive scorer never takes it for yes/no
        ("no", "NO!", True),
        ("no", " \n no ", True),
        ("no", "Nope", True),
        ("yes", "yeah", True),
        ("no", "False.", True),
        ("true", "Yes", True),
        ("yes", "**Yes**", True),
        ("yes", '"yes."', True),
        ("yes", "Yes, the heart is abnormal.", True),  # "no" inside abnormal
        ("yes", "Yes — it does.", True),
        ("yes", "Yes, it does.", True),
        ("no", "No, it is normal.", True),
        ("no", "The lungs are normal.", False),  # "no" inside normal
        ("no", "I do not know", False),
        ("no", "cannot be determined", False),
        ("no", "none", False),
        ("no", "Not visible.", False),
        ("no", "There is no evidence of pneumothorax.", False),  # the first word decides, or nothing does
        ("yes", "The answer would be yes", False),
        ("yes", "Yes, there is no doubt.", False),  # takes it back, as far as words go
        ("yes", "yes or no", False),
        ("no", "yes or no", False),
        ("no", "No, yes.", False),
        ("yes", "Yes, a no-contrast scan.", True),  # "no" inside a compound
        ("no", "no-contrast scan", False),
        ("yes", "yesterday", False),
        ("no", "nodule", False),
        ("yes", "eyes", False),
        ("yes", "no", False),
        ("no", "yes", False),
        ("yes", "", False),
        ("no", "", False),
        ("yes", "...", False),
        ("是", "是的。", True),
        ("包含", "是", True),
        ("不包含", "没有", True),
        ("没有", "不是", True),
        ("有", "没有", False),
        ("不对", "对", False),
        ("是的", "不是", False),
        ("yes", "是的，有病变", True),
        ("yes", "正常", False),  # "normal" is no yes
        ("正常", "正常", True),
        ("正常", "是", False),
        # closed questions that are neither yes nor no (21 in the VQA-RAD test split): exact, like open ones
        ("MRI", "mri", True),
        ("MRI", "It is an MRI.", False),
        ("Coronal Plane", "coronal plane.", True),
        ("Left", "the left", True),
        ("Left", "left or right", False),
        ("abnormal", "normal", False),
        ("T2", "T2*", False),
    ],
)
def test_closed(gold, response, right):
    assert judge(response, gold, "closed") is right


@pytest.mark.parametrize(
    ("gold", "response", "right"),
    [
        ("left upper lobe", "Left upper lobe.", True),
        ("left lobe", " left   lobe\n", True),
        ("left upper lobe", "The nodule is in the left upper lobe of the lung", False),  # recall 1.0 elsewhere
        ("left upper lobe", "left lobe", False),
        ("right", "the right right side", False),
        ("right", "right right", False),
        ("the liver", "Liver", True),
        ("a pacemaker", "pacemaker", True),
        ("in the left lung", "in left lung", True),
        ("hepatitis A", "hepatitis", False),  # an "a" that means something
        ("hepatitis A", "Hepatitis a", True),
        ("influenza A virus", "influenza virus", False),
        ("A", "a", True),
        ("A", "B", False),
        ("A", "", False),
        ("the", "The.", True),
        ("the the", "The the", True),  # nothing but articles
        ("X-Ray", "xray", True),
        ("chest x-ray", "Chest X ray", True),
        ("xray", "ray", False),
        ("ring-enhancing lesion", "ring enhancing lesion", True),
        ("T1\u2011weighted", "T1-weighted", True),
        ("ring-enhancing", "ringenhancing", False),
        ("-5", "5", False),
        ("2", "two", True),
        ("two lesions", "2 lesions", True),
        ("12", "12 cm", False),
        ("0", "none", False),  # one scorer turns none into 0
        ("10", "ten", True),
        ("1", "someone", False),
        ("Lung, Spinal Cord", "lung,spinal cord", True),
        ("Lung, Spinal Cord", "Lung", False),
        ("Crohn's disease", "crohn\u2019s disease", True),
        ("5 cm", "５ｃｍ", False),
        ("5cm", "５ｃｍ", True),
        ("air?", "air", True),
        ("(left)", "left", True),
        ("lung (left)", "lung left", False),
        ("(a) and (b)", "a) and (b", False),
        ("T2*", "T2", False),
        ("lymphoma", "adenocarcinoma", False),
        ("Yes", "yes, clearly", False),  # only closed questions have a first word
        ("", "", False),
        ("", "anything", False),
        ("?", "?", False),
        ("(...)", "", False),
        ('""', '""', False),
    ],
)
def test_open(gold, response, right):
    assert judge(response, gold, "open") is right


@pytest.mark.parametrize(
    ("gold", "response", "right"),
    [
        ("B", "B", True),
        ("B", "b", True),
        ("B", "(B)", True),
        ("B", "B.", True),
        ("B", "b)", True),
        ("B", "**B**", True),
        ("B", "B. MRI", True),
        ("B", "b) MRI", True),
        ("B", "(B) mri.", True),
        ("B", "B: MRI", True),
        ("B", "B - MRI", True),
        ("B", "B MRI", True),
        ("B", "Option B", True),
        ("B", "option (b)", True),
        ("B", "The answer is B.", True),
        ("B", "The correct answer is option B: MRI", True),
        ("B", "Answer: MRI", True),
        ("B", "MRI", True),
        ("B", "an MRI.", True),
        ("MRI", "B", True),  # gold as text
        ("mri", "(b) MRI", True),
        ("B. MRI", "MRI", True),
        ("C", "xray", True),
        ("A", "CT-scan", True),
        ("B", "A", False),
        ("B", "F", False),
        ("B", "BMRI", False),
        ("B", "B. X-ray", False),  # letter and text disagree
        ("C", "B. X-ray", False),
        ("B", "A or B", False),
        ("B", "A, B", False),
        ("A", "A and B", False),
        ("B", "C is wrong, so B", False),
        ("B", "I think the best option is B because A shows bone.", False),
        ("B", "It is an MRI scan.", False),  # a sentence is no option, and nothing else either
        ("A", "It is an MRI scan.", False),
        ("A", "CT scam", False),  # the most similar option elsewhere
        ("A", "", False),  # option A elsewhere
        ("A", ".", False),
        ("A", "A scan", False),
        ("B", "\\boxed{B}", False),
        ("B", "I do not know", False),
        ("E", "B", False),
        ("PET", "B", False),  # a gold that is no option
        ("", "A", False),
    ],
)
def test_choice(gold, response, right):
    assert judge(response, gold, "choice", MODALITIES) is right


@pytest.mark.parametrize(
    ("gold", "response", "options", "right"),
    [
        # options that carry their own letters (PMC-VQA)
        ("B", "Focal uptake pattern", RAW_PMC, True),
        ("B", "B:Focal uptake pattern", RAW_PMC, True),
        ("Focal uptake pattern", "B", RAW_PMC, True),
        ("B", "A: Focal uptake pattern", RAW_PMC, False),
        # two options of equal text are one option
        ("D", "cyst", ("cyst", "mass", "node", "Cyst."), True),
        ("A", "D", ("cyst", "mass", "node", "Cyst."), True),
        ("D", "a cyst", ("cyst", "mass", "node", "Cyst."), True),
        ("B", "D", ("cyst", "mass", "node", "Cyst."), False),
        # letters that are also texts: ambiguous is wrong, the letter decides what is gold
        ("A", "B", ("B", "A"), False),
        ("B", "A", ("B", "A"), False),
        ("B", "B.", ("B", "A"), True),  # repeats the gold
        ("A", "A. B", ("B", "A"), True),
        ("K", "(K)", ("A", "D", "E", "K"), True),
        # a genus is no letter
        ("A", "E. coli", ("E. coli", "K. pneumoniae", "S. aureus", "P. mirabilis", "B. cereus"), True),
        ("E", "E. coli", ("E. coli", "K. pneumoniae", "S. aureus", "P. mirabilis", "B. cereus"), False),
        # an article is no letter
        ("B", "a mass", ("cyst", "mass"), True),
        ("A", "a mass", ("cyst", "mass"), False),
        # numbers
        ("C", "three", ("1", "2", "3"), True),
        ("three", "c) 3", ("1", "2", "3"), True),
        ("I", "i", tuple("one two three four five six seven eight nine".split()), True),  # MMMU has nine options
        # an option that says nothing cannot be named by saying nothing
        ("A", "?", ("?", "mass"), False),
        ("A", "A", ("", ""), True),
        ("A", "B", ("", ""), False),
        # options unknown: letters alone
        ("B", "Option (B)", (), True),
        ("B", "B. MRI", (), False),
        ("MRI", "mri", (), True),
        ("B", "B", ("AA", "Aa", "aa", "BB"), True),  # capitals alone tell genotypes apart
        ("Aa", "B", ("AA", "Aa", "aa", "BB"), True),
        ("B. Aa", "B", ("AA", "Aa", "aa", "BB"), True),
        ("The answer is Aa", "Aa", ("AA", "Aa", "aa", "BB"), True),
        ("A", "B", ("AA", "Aa", "aa", "BB"), False),
        ("C", "B", ("AA", "Aa", "aa", "BB"), False),
        ("aa", "B", ("AA", "Aa", "aa", "BB"), False),
        ("bb", "D", ("AA", "Aa", "aa", "BB"), False),
        ("A", "B", ("A", "a", "B", "b"), False),
        ("the node", "Node", ("cyst", "mass"), True),  # a gold that is no option is judged as if open
    ],
)
def test_choice_of_odd_options(gold, response, options, right):
    assert judge(response, gold, "choice", options) is right


def test_an_unknown_kind_is_a_bug_of_the_caller():
    with pytest.raises(ValueError, match="closed, open, choice"):
        judge("yes", "yes", "CLOSED")
