"""A judge at an OpenAI-compatible chat endpoint: one prompt in one user turn, at temperature 0; the text of the reply.

It is asked as every remote expert is (`pipeline.adapters.endpoint`), but where an expert may fail at one question, a
judge that fails ends the evaluation: an answer without a verdict would be no number.
"""

import os
from collections.abc import Callable
from pathlib import Path

from pipeline.adapters.addresses import JUDGE, api_key
from pipeline.adapters.endpoint import Endpoint, Limits
from pipeline.adapters.judge import llm_judge
from schemas.experts import Failure
from schemas.protocols.base import Protocol

PATH = "chat/completions"
LIMITS = Limits(concurrency=1, tries=6, wait_max_s=300.0)


def recorded_judge(model: str, log: Path, url: str | None) -> Protocol:
    """The judge whose verdicts stand in `log`, asked at `url` for those that do not; without a url, a replay."""
    return llm_judge(model, log, None if url is None else asker(url, model))


def asker(
    url: str, model: str, *, limits: Limits = LIMITS, sleep: Callable[[float], object] | None = None
) -> Callable[[str], str]:
    """Prompt to reply, by the endpoint at `url` (…/v1, or its chat completions), its key from the environment."""
    address = url.rstrip("/").removesuffix(f"/{PATH}")
    key = api_key(address, os.environ, JUDGE)
    endpoint = Endpoint(address, key, limits, sleep, lambda: 1.0, JUDGE)  # one caller: nobody to be out of step with

    def ask(prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        reply = endpoint.post(PATH, {"model": model, "messages": messages, "temperature": 0})
        if isinstance(reply, Failure):
            why = f"{reply.error_class}: {reply.message} {reply.raw}".rstrip()
            endpoint.stop(f"gave no answer, {why}", "check the url and the model, or run again later")
        try:
            said = reply["choices"][0]["message"]["content"]
        except (LookupError, TypeError):
            said = reply
        if not isinstance(said, str | None):
            endpoint.stop("sent something that is no chat completion", "check the url")
        return said or ""  # null, as of a refusal, is an empty reply

    return ask
