import json
import math

import pytest

from pipeline.adapters.experts.chat import Sampling, explained, request, said, tokens_used
from pipeline.adapters.experts.token_odds import Said, Token
from schemas.experts import Failure


def reply(content: object = "hi", *, finish: str = "stop", **more: object) -> dict:
    return {"choices": [{"message": {"content": content}, "finish_reason": finish, **more}]}


def test_a_request_leaves_out_what_is_not_wanted():
    bare = Sampling("m", None, None, 9, "max_completion_tokens", None, None)
    body = json.loads(request(bare, "where?", "data:x", wants_top=True))
    image, prompt = body.pop("messages")[0]["content"]
    assert (image["image_url"]["url"], prompt["text"]) == ("data:x", "where?")
    assert body == {"model": "m", "max_completion_tokens": 9}
    full = json.loads(request(Sampling("m", thinking=False), "where?", "data:x", wants_top=True))
    assert full["chat_template_kwargs"] == {"enable_thinking": False}
    assert (full["logprobs"], full["top_logprobs"]) == (True, 20)


@pytest.mark.parametrize("text", ['"url": ""', '{"image_url": {"url": ""}}', "\ud800 \x00 µ", "\\", ""])
def test_any_text_can_be_asked_and_the_picture_stays_in_its_place(text):
    sampling = Sampling(text, max_tokens_field="url")
    body = json.loads(request(sampling, text, "data:y", wants_top=False))
    assert body["model"] == text
    image, prompt = body["messages"][0]["content"]
    assert (image, prompt) == (
        {"type": "image_url", "image_url": {"url": "data:y"}},
        {"type": "text", "text": text},
    )
    assert (body["url"], body["top_logprobs"]) == (1024, 1)


def test_the_words_and_the_log_probabilities_of_a_reply():
    content = [{"token": "hi", "logprob": -0.5, "top_logprobs": [{"token": "ho", "logprob": -1}]}]
    assert said(reply(logprobs={"content": content})) == Said("hi", (Token("hi", -0.5, (("ho", -1.0),)),))
    assert said(reply("<think>so</think>hi", finish="length")) == Said("hi", None, is_cut=True)
    unknown = said(reply(logprobs={"content": [{"token": "hi", "logprob": None}]}))
    assert math.isnan(unknown.tokens[0].logprob)


@pytest.mark.parametrize(
    ("told", "error_class"),
    [
        ({}, "malformed_json"),
        ({"choices": []}, "malformed_json"),
        ({"choices": [None]}, "malformed_json"),
        ({"choices": [{"message": "hi"}]}, "malformed_json"),
        (reply(logprobs={"content": [{"token": 7, "logprob": -1}]}), "malformed_json"),
        (reply(logprobs={"content": [{"token": "a", "logprob": "x"}]}), "malformed_json"),
        (reply(None), "empty"),
        (reply(" "), "empty"),
        (reply(["hi"]), "empty"),
        (reply(finish="content_filter"), "refused"),
        ({"choices": [{"message": {"content": None, "refusal": "I cannot"}}]}, "refused"),
    ],
)
def test_what_is_no_answer(told, error_class):
    failure = said(told)
    assert isinstance(failure, Failure)
    assert failure.error_class == error_class


def test_a_prompt_that_is_too_long_has_its_own_class():
    told = Failure("http_status", "status 400", "This model's maximum context length is 4096 tokens.")
    assert explained(told).error_class == "context_length"
    assert explained(Failure("http_status", "status 400", "no such field")).error_class == "http_status"


@pytest.mark.parametrize(
    ("usage", "expected"), [({"prompt_tokens": 5, "completion_tokens": 7}, (5, 7)), (None, (0, 0)), ([1], (0, 0))]
)
def test_tokens_as_the_server_counts_them(usage, expected):
    assert tokens_used({"usage": usage}) == expected
