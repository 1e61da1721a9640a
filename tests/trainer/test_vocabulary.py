from dataclasses import replace

from schemas.grammar import clean_reasoning
from tests.trainer.small_runs import SLICE
from trainer.data import load_train_data
from trainer.dialogue import question_text
from trainer.tiny import make_tokenizer
from trainer.vocabulary import corpus


def test_the_same_store_gives_the_same_lines_and_they_hold_every_word(run_store, small_recipe):
    snapshot = run_store.snapshot()
    data = load_train_data(snapshot, snapshot.slice(SLICE), "cvs", 6)
    searches = [one for many in data.trajectories.values() for one in many]
    lines = corpus(data.questions, searches, small_recipe.dialogue)
    assert lines == corpus(data.questions, reversed(searches), small_recipe.dialogue)
    everything = "\n".join(lines)
    assert small_recipe.dialogue.system in everything
    assert all(question_text(one) in everything and one.answer in everything for one in data.questions)
    assert all(clean_reasoning(step.text) in everything for one in searches for step in one.steps)


def test_it_speaks_the_dialect_of_the_recipe(run_store, small_recipe):
    lines = corpus((), (), replace(small_recipe.dialogue, dialect="zoom"))
    assert any("image_zoom_in_tool" in line for line in lines)
    assert not any("Gaze" in line for line in lines)


def test_a_tokenizer_made_of_them_spells_questions_shorter_than_another(run_store, small_recipe, lines):
    snapshot = run_store.snapshot()
    data = load_train_data(snapshot, snapshot.slice(SLICE), "none", 0)
    learned, other = (make_tokenizer(some, 400) for some in (corpus(data.questions, (), small_recipe.dialogue), lines))
    for one in data.questions:
        assert 1.5 * len(learned.encode(question_text(one))) < len(other.encode(question_text(one)))
