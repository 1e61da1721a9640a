import torch

from trainer.policy import Policy
from trainer.tiny import TinyConfig, make_tiny, save_tiny


def test_the_default_has_about_a_million_parameters_and_spare_rows(lines):
    model, tokenizer, _ = make_tiny(TinyConfig(), lines, 0)
    assert 1.0e6 < sum(weight.numel() for weight in model.parameters()) < 1.3e6
    assert len(tokenizer) <= model.config.text_config.vocab_size - 32


def test_the_tokenizer_is_qwens_rule_on_a_small_vocabulary(policy):
    tokenizer = policy.tokenizer
    ids = tokenizer.encode("bbox [12, 345]</tool_call> Ωü\n<|im_end|>")
    assert tokenizer.decode(ids) == "bbox [12, 345]</tool_call> Ωü\n<|im_end|>"
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert [token for token in tokens if any(digit in token for digit in "12345")] == list("12345")
    assert ids.count(tokenizer.convert_tokens_to_ids("</tool_call>")) == 1
    assert ids[-1] == policy.stop_id


def test_the_seed_is_all_that_the_weights_depend_on(lines, small):
    state = torch.random.get_rng_state()
    first, again, other = (make_tiny(small, lines, seed)[0].state_dict() for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_a_saved_tiny_model_loads_like_any_checkpoint(lines, small, tmp_path):
    policy = Policy.load(save_tiny(small, lines, 3, tmp_path / "tiny"))
    made, tokenizer, _ = make_tiny(small, lines, 3)
    assert policy.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert all(torch.equal(weight, made.state_dict()[name]) for name, weight in policy.model.state_dict().items())
