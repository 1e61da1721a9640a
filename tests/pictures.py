"""Small real image files, each tone a different one."""

import hashlib
import io
import json
from dataclasses import asdict

import numpy as np
from PIL import Image as Pillow


def jpeg(tone: int) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(np.full((10, 12, 3), tone % 256, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def read_all(source):
    """Images, questions by id and rejects by row key of a whole source; no id and no key may come twice."""
    found = [source.read(shard) for shard in source.plan()]
    images = [image for rows in found for image in rows.images]
    questions = {one.question_id: one for rows in found for one in rows.questions}
    rejects = {one.row_key: one for rows in found for one in rows.rejects}
    assert len(questions) == sum(len(rows.questions) for rows in found)
    assert len(rejects) == sum(len(rows.rejects) for rows in found)
    return images, questions, rejects


def words_digest(source):
    """sha256 of all that a source says beside its pictures: if it moves, the source's `revision` must be raised."""
    images, questions, rejects = read_all(source)
    what = [asdict(one) | {"image_ids": len(one.image_ids)} for one in questions.values()]
    what += [asdict(one) for one in rejects.values()]
    what += sorted([image.path, image.modality, image.group_key, image.licence] for image in images)
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
