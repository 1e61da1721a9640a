"""Who two rows have in common, without saying who: a keyed hash of a source's own patient number.

A hash under a published key is no protection, so restricted sources get none without a key of the owner's.
"""

import hashlib
import hmac

from schemas.errors import UsageError

PUBLIC_KEY = b"fovea public patient key 1"  # published on purpose: open data only, keeps keys comparable between stores
KEY_BYTES_MIN = 16


def patient_key(family: str, patient: str | None, key: bytes | None, restricted: bool) -> str | None:
    """HMAC-SHA256(key, length:family length:patient) in hex; null when the patient or the key may not be told.

    Without `key`, restricted sources get null and open ones the public key. `family` is who gave the
    patient its number (nih, mimic, chexpert): two sources of one family give one key, two families two.
    """
    if key is not None and len(key) < KEY_BYTES_MIN:
        raise UsageError(
            f"a patient key needs at least {KEY_BYTES_MIN} bytes, this one has {len(key)}",
            fix="make one: head -c 32 /dev/urandom > patient.key",
        )
    if not patient or (key is None and restricted):
        return None
    message = "".join(f"{len(part)}:{part}" for part in (family, patient))
    return hmac.new(key or PUBLIC_KEY, message.encode(), hashlib.sha256).hexdigest()
