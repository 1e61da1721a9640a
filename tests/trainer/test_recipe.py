import copy
import json

import pytest

from schemas.errors import UsageError
from schemas.manifest import sha256_of
from trainer.recipe import Recipe, load_recipe, recipe_from, recipe_names


def read(record, path):
    for name in path.split("."):
        record = getattr(record, name)
    return record


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_load_and_survive_json(name):
    recipe = load_recipe(name)
    again = recipe_from(json.loads(json.dumps(recipe.plain())))
    assert again == recipe
    assert again.digest == recipe.digest == sha256_of(json.loads(json.dumps(recipe.plain())))


def test_there_are_recipes_to_ship():
    assert {"tiny", "medeyes", "medeyes-literal", "luffy"} <= set(recipe_names())


def test_the_digest_knows_values_and_not_their_spelling(tmp_path):
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text("[run]\nseed = 3\ntemperature = 1\n[loss]\nclip = 0.2\n")
    other.write_text("loss = { clip = 2e-1 }\n[run]\ntemperature = 1.0\nseed = 0x3\n")
    assert load_recipe(str(one)).digest == load_recipe(str(other)).digest == load_recipe(str(one)).digest


def leaves(plain, path=()):
    for name, value in plain.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


@pytest.mark.parametrize(
    "path", [path for path, value in leaves(Recipe().plain()) if type(value) in (bool, int, float)], ids=".".join
)
def test_every_number_and_switch_is_in_the_digest(path):
    plain = copy.deepcopy(Recipe().plain())
    plain["advantage"]["experts_max"] = 12  # so that twice as many experts are allowed
    before, table = recipe_from(plain).digest, plain
    for name in path[:-1]:
        table = table[name]
    old = table[path[-1]]
    table[path[-1]] = (not old) if isinstance(old, bool) else (2 * old or 1) if isinstance(old, int) else old + 0.125
    assert recipe_from(plain).digest != before


def test_the_defaults_are_the_objective_of_the_method():
    """Numbers of the paper and ours, one by one: a shipped recipe that is silent about a term does not have it."""
    loss, advantage, run, reward = (read(Recipe(), name) for name in ("loss", "advantage", "run", "reward"))
    assert (loss.clip, loss.off_ratio, loss.off_negative, loss.loss_norm) == (0.2, "token", "clip", "token_mean")
    assert (loss.lambda_off, loss.lambda_sft, loss.kl, loss.entropy_bonus) == (1.0, 0.0, 0.0, 0.0)
    assert (loss.shaping_gamma, loss.log_ratio_clamp, loss.allow_sequence_ratio) == (0.1, 20.0, False)
    assert (advantage.mode, advantage.expert_degenerate, advantage.eps) == ("decoupled", "on_baseline", 1e-4)
    assert (advantage.sigma_floor, advantage.sigma_degenerate, advantage.divides_by_sigma) == (0.05, 0.05, True)
    assert (advantage.experts_max, advantage.keeps_wrong_experts, Recipe().data.n_experts) == (6, False, 6)
    assert (run.n_policy, run.prompts_per_step, run.steps, run.schedule.lr) == (8, 7, 80, 1e-6)
    assert (run.temperature, run.weight_decay, run.grad_norm_max) == (1.0, 0.0, 1.0)
    assert (run.schedule.shape, run.schedule.warmup_steps, run.schedule.lr_min_share) == ("constant", 0, 0.0)
    assert (reward.weight_accuracy, reward.weight_grammar, reward.weight_diversity) == (0.7, 0.2, 0.1)
    literal = load_recipe("medeyes-literal")
    assert (literal.advantage.sigma_floor, literal.advantage.sigma_degenerate) == (0.0, 0.0)
    assert (literal.advantage.expert_degenerate, literal.loss.loss_norm) == ("zero", "trajectory_mean")


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("run.steps=7", "run.steps", 7),
        (" run.steps = 7 ", "run.steps", 7),
        ("run.temperature=2", "run.temperature", 2.0),  # an int is a float, not the other way round
        ("run.self_check=false", "run.self_check", False),
        ("data.experts=grn", "data.experts", "grn"),  # a bare word is a string
        ('data.experts="grn"', "data.experts", "grn"),
        ("dialogue.system=Look, then answer.", "dialogue.system", "Look, then answer."),
        ("dialogue.system=", "dialogue.system", ""),
        ("model.base=a=b", "model.base", "a=b"),
        ("run.schedule.lr=3e-4", "run.schedule.lr", 3e-4),
        ('run.schedule={ lr = 1.0, shape = "cosine" }', "run.schedule.shape", "cosine"),
        ("tiny.vision_full_attention=[0, 1]", "tiny.vision_full_attention", (0, 1)),
    ],
)
def test_forms_of_set(override, path, value):
    found = read(load_recipe("tiny", [override]), path)
    assert (found, type(found)) == (value, type(value))


def test_the_last_of_two_settings_holds_and_others_stay():
    recipe = load_recipe("tiny", ["run.seed=1", "run.seed=2"])
    assert recipe.run.seed == 2
    assert recipe.warm == load_recipe("tiny").warm


@pytest.mark.parametrize(
    "override",
    [
        "run.steps",  # no value
        "steps=3",  # no section
        "=3",
        "run.stepz=3",
        "walk.steps=3",
        "run.schedule.rate=1",
        "run.steps.more=3",  # below a value
        "run.schedule=3",
        "run.steps=1.5",
        "run.steps=true",
        "run.steps='3'",
        "run.temperature=warm",
        "run.temperature=nan",
        "run.temperature=inf",
        "model.freeze_vision=1",
        "model.dtype=float16",
        "dialogue.dialect=[]",
        "dialogue.system=3",
        "tiny.vision_full_attention=2",
        "tiny.vision_full_attention=all",
        "tiny.vision_full_attention=['all']",
        "loss.off_ratio=sequence",  # has to be said twice
        "run.temperature=" + "9" * 400,  # no float is as large
    ],
)
def test_a_wrong_setting_is_refused_by_name(override):
    with pytest.raises(UsageError) as error:
        load_recipe("medeyes", [override])
    assert error.value.exit_code == 2


NAMED = {"text_heads": "text_hidden", "text_kv_heads": "text_heads", "vision_heads": "vision_hidden"}  # what it divides


@pytest.mark.parametrize(
    "override",
    [
        "run.steps=-1",
        "run.n_policy=0",
        "run.prompts_per_step=0",
        "run.temperature=0",
        "run.save_every=0",
        "run.keep=0",
        "run.schedule.warmup_steps=80",
        "run.grad_norm_max=0",
        "dialogue.turn_tokens_max=0",
        "dialogue.looks_max=-1",
        "data.n_experts=-1",
        "view.crop_max_pixels=3",
        "view.look_min_side_px=0",
        "warm.batch=0",
        "warm.look_side_share_min=0.5",
        "warm.look_side_share_max=1.1",
        "warm.guess_weight=-1",
        "warm.words_weight=-0.5",
        "warm.reading_share=1.5",
        "run.seed=-1",
        f"run.seed={2**63}",
        "data.n_experts=7",  # of which advantage.experts_max lets six in
        "tiny.spare_ids=-1",
        "tiny.text_layers=0",
        "tiny.text_heads=3",
        "tiny.text_kv_heads=3",
        "tiny.vision_heads=5",
        "tiny.vision_window_px=27",
        "tiny.vocab_size=303",  # 32 of them spare: one short of the bytes and markers
        "run.schedule.lr=0",
        "loss.clip=1",
        "reward.looks_max=0",
        "advantage.eps=0",
    ],
)
def test_a_value_that_no_run_could_use_is_refused_before_it_begins(override):
    name = override.partition("=")[0].rpartition(".")[2]
    with pytest.raises(UsageError, match=NAMED.get(name, name)):
        load_recipe("medeyes", [override])


def test_a_warm_up_as_long_as_its_phase_is_refused_only_where_there_is_the_phase():
    too_long = ["warm.steps=3", "warm.schedule.warmup_steps=3"]
    with pytest.raises(UsageError, match="warmup_steps"):
        load_recipe("medeyes", [*too_long, "warm.kind=format"])
    assert load_recipe("medeyes", too_long).warm.steps == 3
    assert load_recipe("medeyes", ["run.steps=0", "run.schedule.warmup_steps=5"]).run.steps == 0


def test_unknown_keys_are_listed_beside_those_that_are_known(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[warm]\nschedule = { lr = 1.0, speed = 2 }\n")
    with pytest.raises(UsageError) as error:
        load_recipe(str(path))
    assert "['speed']" in error.value.what
    assert "warmup_steps" in error.value.what
    assert "mine.toml: warm: schedule" in error.value.where


def test_files_that_are_no_recipe(tmp_path):
    for name, data in (("broken.toml", b"[run"), ("latin.toml", b"x = '\xe9'"), ("plain.txt", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError):
            load_recipe(str(tmp_path / name))
    with pytest.raises(UsageError, match="no recipe") as error:
        load_recipe("meadeyes")
    assert "medeyes-literal" in error.value.fix
