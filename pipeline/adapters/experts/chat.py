"""The chat completions protocol of OpenAI, as vLLM, SGLang, llama.cpp and vendors speak it: one picture, one prompt.

It builds the request and reads the reply; it sends nothing, and judges nothing that the model wrote.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.adapters.experts.token_odds import Said, Token, spoken
from schemas.experts import Failure

PATH = "chat/completions"
TOO_LONG = ("context length", "context_length", "maximum context", "context size", "too many tokens", "max_model_len")
_NO_URL = b'"url": ""'


@dataclass(frozen=True, slots=True)
class Sampling:
    """What is asked of the server beside the prompt; None leaves a field out, for servers that refuse it."""

    model: str
    temperature: float | None = 0.0
    seed: int | None = 0
    max_tokens: int = 1024
    max_tokens_field: str = "max_tokens"  # newer models of OpenAI want max_completion_tokens
    top_logprobs: int | None = 20  # None: log-probabilities are not asked for
    thinking: bool | None = None  # of templates that know `enable_thinking` (Qwen3)


def request(sampling: Sampling, prompt: str, image_url: str, *, wants_top: bool) -> bytes:
    """Body of the request in JSON: the picture, then the prompt, in one user turn.

    Without `wants_top` only the written tokens have a log-probability: twenty more for each are most of a reply. One is
    asked for even so, since llama.cpp takes 0 for no log-probabilities at all. The url is set in as it is: `json` would
    read millions of letters for something to escape, and a `data:` URL has nothing.
    """
    n_top = None if sampling.top_logprobs is None else sampling.top_logprobs if wants_top else 1
    content = [{"type": "image_url", "image_url": {"url": ""}}, {"type": "text", "text": prompt}]
    body: dict[str, Any] = {"model": sampling.model, "messages": [{"role": "user", "content": content}]}
    body |= {"temperature": sampling.temperature} if sampling.temperature is not None else {}
    body |= {"seed": sampling.seed} if sampling.seed is not None else {}
    body |= {"logprobs": True, "top_logprobs": n_top} if n_top is not None else {}
    body |= {"chat_template_kwargs": {"enable_thinking": sampling.thinking}} if sampling.thinking is not None else {}
    body |= {sampling.max_tokens_field: sampling.max_tokens}
    written = json.dumps(body).encode()  # ASCII: any text can be sent
    before, place, after = written.partition(_NO_URL)  # inside a text its quotes would be escaped
    return b"".join((before, place[:-1], image_url.encode(), b'"', after))


def said(reply: Mapping[str, Any]) -> Said | Failure:
    """The first choice of a reply; Failure for what is no chat completion, or a refusal in its own words."""
    try:
        choice = reply["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content"), message.get("refusal")
        tokens = _tokens((choice.get("logprobs") or {}).get("content"))
    except (LookupError, TypeError, AttributeError, ValueError):
        return Failure("malformed_json", "the reply is no chat completion")
    if finish == "content_filter" or isinstance(refusal, str):
        return Failure("refused", "the server or its model declines to answer")
    if not isinstance(text, str) or not text.strip():
        return Failure("empty", "the model wrote nothing" + (" within max_tokens" if finish == "length" else ""))
    return Said(spoken(text), tokens, finish == "length")


def explained(failure: Failure) -> Failure:
    """A refused request under the class `context_length` where the server says that it is too long."""
    is_too_long = failure.error_class == "http_status" and any(each in failure.raw.lower() for each in TOO_LONG)
    return Failure("context_length", failure.message, failure.raw) if is_too_long else failure


def tokens_used(reply: Mapping[str, Any]) -> tuple[int, int]:
    """(prompt, completion) tokens as the server counts them; 0 for what it does not say."""
    usage = reply.get("usage")
    told = usage if isinstance(usage, Mapping) else {}
    n_in, n_out = told.get("prompt_tokens"), told.get("completion_tokens")
    return n_in if type(n_in) is int else 0, n_out if type(n_out) is int else 0


def another_model(reply: Mapping[str, Any], served_as: str) -> str | None:
    """The model that says it has answered, where it is not the one wanted or a dated release of it; "*" wants any."""
    name = reply.get("model")
    if served_as == "*" or not isinstance(name, str) or name == served_as:
        return None
    date = name.removeprefix(f"{served_as}-").replace("-", "")
    return None if name.startswith(f"{served_as}-") and date.isdigit() else name


def _tokens(content: Sequence[Mapping[str, Any]] | None) -> tuple[Token, ...] | None:
    if not content:
        return None
    return tuple(Token(*_pair(each), tuple(map(_pair, each.get("top_logprobs") or ()))) for each in content)


def _pair(told: Mapping[str, Any]) -> tuple[str, float]:
    text, logprob = told["token"], told["logprob"]
    if type(logprob) is float and type(text) is str:  # nearly always, and hundreds of times in a reply
        return text, logprob
    if not isinstance(text, str):
        raise TypeError("a token is no text")
    return text, float("nan") if logprob is None else float(logprob)
