import pytest
import torch

from trainer.features import FeatureCache


@pytest.fixture
def frozen(policy, monkeypatch):
    monkeypatch.setattr(policy, "freeze_vision", True)
    return policy


def test_an_image_is_encoded_once_for_rollouts_and_updates(frozen, image_of, monkeypatch):
    a, b, c = (image_of(seed, *size) for seed, size in enumerate(((112, 84), (56, 56), (112, 112))))
    ran, encode = [], frozen.encode
    monkeypatch.setattr(frozen, "encode", lambda images: ran.append([one.key for one in images]) or encode(images))
    cache = FeatureCache(frozen)
    with torch.inference_mode():
        first = cache.get([a, b, a])
    again = cache.get([b, c])
    cache.forget()  # a frozen tower's features stay true
    assert list(cache.get([a, b, c])) == [a.key, b.key, c.key]
    assert ran == [[a.key], [b.key], [c.key]]
    assert again[b.key] is first[b.key]
    assert not first[a.key].is_inference()  # an update saves it for its backward pass
    assert cache.n_encoded == a.n_tokens + b.n_tokens + c.n_tokens


def test_features_do_not_depend_on_what_else_is_encoded(policy, image_of):
    images = [image_of(seed, 112, 84) for seed in range(3)]
    with torch.no_grad():
        together = FeatureCache(policy).get(images)
        for image in images:
            assert torch.equal(FeatureCache(policy).get([image])[image.key], together[image.key])


def test_a_trained_tower_gives_a_graph_to_an_update_and_forgets_between_steps(policy, image_of):
    image, cache = image_of(0), FeatureCache(policy)
    with torch.no_grad():
        held = cache.get([image])[image.key]
        assert cache.get([image])[image.key] is held
    assert not held.requires_grad
    assert cache.get([image])[image.key].requires_grad
    assert cache.n_encoded == 2 * image.n_tokens
    cache.forget()
    with torch.no_grad():
        assert cache.get([image])[image.key] is not held


def test_a_rollouts_graph_waits_for_the_update_and_serves_it_once(exact, image_of, gradients):
    a, b, c = (image_of(seed, 112, 84) for seed in range(3))
    cache = FeatureCache(exact, graph_tokens_max=2 * a.n_tokens)
    with torch.inference_mode():
        shown = {key: one for image in (a, b, c) for key, one in cache.get([image]).items()}
    assert not any(one.requires_grad or one.is_inference() for one in shown.values())
    assert cache.n_encoded == 3 * a.n_tokens
    taught = cache.get([a, b, c])
    assert cache.n_encoded == 4 * a.n_tokens  # there was no room for a third graph
    for key, one in taught.items():
        torch.testing.assert_close(one, shown[key], rtol=0, atol=1e-12)
    _, ours = gradients(exact, lambda: torch.cat([taught[one.key] for one in (a, b, c)]).square().sum().backward())
    _, theirs = gradients(exact, lambda: torch.cat(exact.encode([a, b, c])).square().sum().backward())
    assert ours.keys() == theirs.keys()
    for name, grad in theirs.items():
        torch.testing.assert_close(ours[name], grad, rtol=1e-9, atol=1e-9)
    assert cache.get([a])[a.key] is not taught[a.key]
    cache.forget()
    with torch.no_grad():
        cache.get([b])
    cache.forget()
    assert cache.get([b])[b.key].grad_fn is not taught[b.key].grad_fn


def test_the_least_recently_used_goes_first(frozen, image_of):
    a, b, c = (image_of(seed, 56, 56) for seed in range(3))
    room = 2 * FeatureCache(frozen).get([a])[a.key].nbytes
    cache = FeatureCache(frozen, bytes_max=room)
    for images in ([a], [b], [a], [c], [a]):  # b was used longest ago when c came
        cache.get(images)
    assert (cache.n_encoded, cache.n_bytes) == (3 * a.n_tokens, room)
    cache.get([b])
    assert cache.n_encoded == 4 * a.n_tokens
    assert set(cache.get([a, b, c])) == {a.key, b.key, c.key}  # more than it may hold, still given
    assert cache.n_bytes == room
