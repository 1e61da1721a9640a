"""Which protocols there are, by name; `fovea` is the default and the only one that is ours."""

from schemas.errors import UsageError
from schemas.protocols import llava_med, lmms_eval_slake, medevalkit, medxpertqa, mmmu_official, vlmevalkit
from schemas.protocols.base import Protocol
from schemas.protocols.fovea import FOVEA

PROTOCOLS: dict[str, Protocol] = {
    one.name: one
    for one in (
        FOVEA,
        medevalkit.PROTOCOL,
        medevalkit.FIXED,
        llava_med.PROTOCOL,
        lmms_eval_slake.PROTOCOL,
        mmmu_official.PROTOCOL,
        vlmevalkit.PROTOCOL,
        medxpertqa.PROTOCOL,
    )
}


def protocol_named(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise UsageError(f"unknown protocol {name!r}", fix=f"one of: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
