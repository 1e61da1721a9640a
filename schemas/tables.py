"""The tables of the data contract, column by column. A name here is a name in DuckDB, on the Hub and in Python.

Steps are parallel lists, one entry per step, rather than lists of structs: DuckDB does not prune inside
list<struct>. People read the views `steps`, `steps_geom`, `steps_conf` and `steps_text` instead.
"""

import pyarrow as pa

from schemas.columns import (
    BOOL,
    DOUBLE,
    FLOATS,
    INT,
    INTS,
    STRING,
    STRINGS,
    Table,
    box_columns,
    col,
)

IMAGES = Table(
    "images",
    "One stored image, written once per source.",
    ("image_id",),
    (
        col("image_id", STRING, "sha256 of the stored bytes, hex"),
        col("image", pa.struct([("bytes", pa.binary()), ("path", STRING)]), "the file: its bytes and its name"),
        col("width", INT, "pixels"),
        col("height", INT, "pixels"),
        col("modality", STRING, "imaging modality as the source names it", null=True),
        col("pixel_sha256", STRING, "sha256 of mode, size and decoded pixels: equal for re-encoded lossless copies"),
        col("source", STRING, "data set the image came with"),
        col("licence", STRING, "SPDX id or words of the licence of the image"),
        col("pdq", STRING, "PDQ hash of the picture, 256 bits in hex; null where it has too little in it", null=True),
        col("pdq_mirror", STRING, "PDQ hash of its mirror image", null=True),
        col("pdq_trimmed", STRING, "PDQ hash without its uniform border", null=True),
        col("phash", STRING, "pHash of the picture, 64 bits in hex; null where the PDQ hash is", null=True),
        col("phash_mirror", STRING, "pHash of its mirror image", null=True),
        col("phash_trimmed", STRING, "pHash without its uniform border", null=True),
        col("origin", STRING, "family:name of the picture this is a copy of, where known", null=True),
        col(
            "patient_key", STRING, "keyed hash of the patient, null when unknown or restricted without a key", null=True
        ),
        col("group_key", STRING, "article or volume the picture was taken from, where known", null=True),
    ),
    ids=("image_id",),
    dictionary=("modality", "source", "licence"),
    row_group_rows=50,
)

QUESTIONS = Table(
    "questions",
    "One question on one or more images, with its gold answer and the annotated regions.",
    ("question_id",),
    (
        col("question_id", STRING, "source and the source's own number, unique in a store"),
        col("source", STRING, "data set the question came with"),
        col("split", STRING, "train, validation or test"),
        col("image_ids", STRINGS, "images asked about, in order"),
        col("question", STRING, "the question as asked"),
        col("answer", STRING, "gold answer"),
        col("answer_kind", STRING, "closed (yes/no), choice (one of the options) or open"),
        col("options", STRINGS, "answers to choose from; empty unless answer_kind is choice"),
        col("question_type", STRING, "the source's own type, spelling repaired", null=True),
        col("language", STRING, "ISO 639-1 code"),
        col("phrase_type", STRING, "how the wording arose, where the source tells", null=True),
        *box_columns("region", "each annotated region", many=True),
        col("region_label", STRINGS, "what each region shows"),
        col("region_provenance", STRINGS, "who or what drew each region"),
        col("region_image", INTS, "index into image_ids of the image each region lies on"),
        col(
            "patient_key", STRING, "keyed hash of the patient, null when unknown or restricted without a key", null=True
        ),
        col("answer_type", STRING, "the source's own label, OPEN or CLOSED, where it has one", null=True),
        col("source_split", STRING, "split in the source, where it is another one here", null=True),
    ),
    ids=("question_id",),
    dictionary=(
        "source",
        "split",
        "answer_kind",
        "question_type",
        "language",
        "phrase_type",
        "answer_type",
        "source_split",
    ),
)

EXPERT_CALLS = Table(
    "expert_calls",
    "One raw answer of an expert. Everything downstream is recomputable from these.",
    ("call_id",),
    (
        col("call_id", STRING, "sha256 of expert, question as asked, image and query; never of the history before it"),
        col("question_id", STRING, "question the call was made for"),
        col("image_id", STRING, "image the expert looked at"),
        col("expert", STRING, "name@revision+settings hash"),
        col("mode", STRING, "scan or drill"),
        col("round", INT, "drill round of the region, from 1; 0 for a scan"),
        *box_columns("box", "the region asked about", null=True),
        *box_columns("look", "the crop shown", null=True),
        col("raw", STRING, "unparsed output, empty for experts that have none"),
        col("text", STRING, "the expert's words"),
        *box_columns("candidate", "each candidate", many=True),
        col("candidate_label", STRINGS, "what each candidate is called"),
        col("candidate_conf", FLOATS, "confidence of each candidate in [0, 1]"),
        col("error_class", STRING, "why there is no answer; null when there is one", null=True),
        col("message", STRING, "the same in words, as its reject says it; null when there is an answer", null=True),
    ),
    ids=("call_id", "question_id"),
    dictionary=("expert", "mode", "error_class"),
)

TRAJECTORIES = Table(
    "trajectories",
    "One expert trajectory: the regions it knew, its steps as parallel lists, and why it stopped.",
    ("question_id", "origin", "variant"),
    (
        col("question_id", STRING, "question searched for"),
        col("image_ids", STRINGS, "images searched: all of the question, in its order"),
        col("source", STRING, "data set of the question"),
        col("split", STRING, "train, validation or test"),
        col("variant", INT, "0 for plain GRN and ablations, 1…6 for CVS"),
        col("origin", STRING, "grn, cvs, or an ablation: scan_only, drill_only, random"),
        col("origin_fallback", STRING, "whole_image when the expert knew no region; else null", null=True),
        col("expert", STRING, "name@revision+settings hash"),
        col("privileged", BOOL, "whether the expert knew the gold annotation"),
        col("seed", INT, "root seed of the build"),
        col("n_redraws", INT, "how often this variant was redrawn because it repeated another"),
        col("gain_min", DOUBLE, "δ: relative gain of confidence that keeps a drill going"),
        col("confident_at", DOUBLE, "ξ: confidence of the region in focus that ends the search"),
        col("looks_max", INT, "T_max: most looks"),
        col("mass", DOUBLE, "p₀: probability mass of the nucleus"),
        col("temperature", DOUBLE, "τ of the softmax over confidences"),
        col("crossing", STRING, "whether the region that crosses p₀ is kept: exclude or include"),
        *box_columns("region", "each region as it entered", many=True),
        col("region_label", STRINGS, "what each region is called; the index is the region's id"),
        col("region_conf", FLOATS, "confidence each region entered with"),
        col("region_call_id", STRINGS, "call that named each region; null for regions no call named"),
        col("region_image", INTS, "image each region lies on: index into image_ids, from 0"),
        col("step_mode", STRINGS, "scan, drill, or look (gazed at without asking)"),
        col("step_round", INTS, "drill round of the region, from 1; 0 for a scan"),
        col("step_region", INTS, "region id; null for a scan"),
        *box_columns("step", "the region at each step; null for a scan", many=True),
        *box_columns("step_look", "the crop looked at; null for a scan", many=True),
        col("step_conf_before", FLOATS, "confidence before the step; null for a scan"),
        col("step_conf_after", FLOATS, "confidence after the drill; null for scans and unasked looks"),
        col("step_delta_c", FLOATS, "(after − before) / (before + 1e-6), signed; null where after is null"),
        col("step_candidates", pa.list_(INTS), "unvisited region ids at the choice; empty where none was made"),
        col("step_candidate_conf", pa.list_(FLOATS), "their confidences at that moment"),
        col("step_nucleus", pa.list_(INTS), "region ids kept by the nucleus, most probable first"),
        col("step_prob", FLOATS, "softmax probability of the chosen region before truncation; null without a choice"),
        col("step_rank", INTS, "rank of the chosen region, 0 = most probable; null without a choice"),
        col("step_call_id", STRINGS, "expert call of the step; null for unasked looks"),
        col("step_text", STRINGS, "the expert's words"),
        col("step_image", INTS, "image scanned or looked at: index into image_ids, from 0"),
        col("stop_reason", STRING, "confident, length or exhausted"),
        col("n_looks", INT, "drills and unasked looks"),
        col("answer", STRING, "answer the trajectory ends with; null when nobody gave one", null=True),
        col("answer_source", STRING, "gold, expert, or null", null=True),
    ),
    ids=("question_id",),
    dictionary=("source", "split", "origin", "origin_fallback", "expert", "crossing", "stop_reason", "answer_source"),
)

FINDINGS = Table(
    "findings",
    "One label that one annotator gave one image.",
    ("image_id", "finding", "annotator"),
    (
        col("image_id", STRING, "image the label is about"),
        col("finding", STRING, "name of the finding, as the source spells it"),
        col("value", INT, "1 present, 0 absent, -1 uncertain; null where it is not mentioned", null=True),
        col("annotator", STRING, "who says so: a reader's number, the name of a labeller, or consensus"),
        col("source", STRING, "data set of the label"),
    ),
    ids=("image_id",),
    dictionary=("finding", "annotator", "source"),
)

REJECTS = Table(
    "rejects",
    "One input row that did not make it, with the reason. Rows in = rows kept + rejects.",
    ("stage", "source", "row_key"),
    (
        col("stage", STRING, "stage that refused the row"),
        col("source", STRING, "data set of the row"),
        col("shard", STRING, "work shard, by its first row"),
        col("row_key", STRING, "where the row is found in the source"),
        col("error_class", STRING, "kind of problem"),
        col("message", STRING, "what was wrong, for a person"),
    ),
    dictionary=("stage", "source", "shard", "error_class"),
)

TABLES: dict[str, Table] = {
    table.name: table for table in (IMAGES, QUESTIONS, FINDINGS, EXPERT_CALLS, TRAJECTORIES, REJECTS)
}
