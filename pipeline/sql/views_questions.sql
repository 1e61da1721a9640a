-- Views for people: questions, their pictures and words, and what splits and sources have in common.

CREATE OR REPLACE VIEW regions AS
SELECT slice, question_id, source, split, region, image_ids[region_image + 1] AS image_id, * EXCLUDE (
    slice, question_id, source, split, region, image_ids
)
FROM (
    SELECT
        slice, question_id, source, split, image_ids,
        generate_subscripts(region_label, 1) - 1 AS region,
        unnest(region_image) AS region_image,
        unnest(region_x0)::DOUBLE AS x0,
        unnest(region_y0)::DOUBLE AS y0,
        unnest(region_x1)::DOUBLE AS x1,
        unnest(region_y1)::DOUBLE AS y1,
        unnest(region_label) AS label,
        unnest(region_provenance) AS provenance
    FROM questions
);
COMMENT ON VIEW regions IS 'One annotated region of a question per row, with the image it lies on.';

-- Any copy of an image will do: the id is the sha256 of its bytes.
CREATE OR REPLACE VIEW image_sizes AS
SELECT
    image_id, min(width) AS width, min(height) AS height, min(modality) AS modality,
    min(pixel_sha256) AS pixel_sha256, count(*) AS n_copies
FROM images
GROUP BY image_id;
COMMENT ON VIEW image_sizes IS 'One image per row without its bytes, however many slices hold a copy.';

CREATE OR REPLACE VIEW question_images AS
SELECT
    asked.*, image_sizes.width, image_sizes.height, image_sizes.modality, image_sizes.pixel_sha256
FROM (
    SELECT
        slice, question_id, source, split, phrase_type, patient_key,
        generate_subscripts(image_ids, 1) - 1 AS image_index,
        unnest(image_ids) AS image_id
    FROM questions
) AS asked
LEFT JOIN image_sizes USING (image_id);
COMMENT ON VIEW question_images IS 'One image of one question per row; width is null where no part holds the image.';

-- Two pictures of one source are the same when their pixels are, or when the source calls them by one name; a name that
-- stands for several pictures of one split tells nothing.
CREATE OR REPLACE VIEW pictures AS
SELECT
    source, image_id, coalesce(min(pixel_sha256), image_id) AS pixels, min(image.path) AS name, min(origin) AS origin,
    min(patient_key) AS patient_key, min(group_key) AS group_key
FROM images
GROUP BY source, image_id;
COMMENT ON VIEW pictures IS 'One stored image of one source per row: what tells whether two of them are the same.';

CREATE OR REPLACE VIEW asked_pictures AS
SELECT
    source, split, language, pixels, name, origin, group_key, patient_key,
    bool_or(phrase_type IS NOT DISTINCT FROM 'frame') AS is_in_template,
    bool_or(phrase_type IS DISTINCT FROM 'frame') AS is_in_own
FROM (
    SELECT
        asked.source, split, language, phrase_type, coalesce(pixels, image_id) AS pixels, name, origin, group_key,
        coalesce(pictures.patient_key, asked.patient_key) AS patient_key
    FROM (
        SELECT source, split, language, phrase_type, patient_key, unnest(image_ids) AS image_id FROM questions
    ) AS asked
    LEFT JOIN pictures USING (source, image_id)
)
GROUP BY ALL;
COMMENT ON VIEW asked_pictures IS 'Pictures that a split asks about in a language, in templated rows or in its own.';

CREATE OR REPLACE VIEW split_order AS
FROM (VALUES ('test', 'train'), ('validation', 'train'), ('test', 'validation')) AS pairs(split, other_split);
COMMENT ON VIEW split_order IS 'Which split must not know which other one.';

CREATE OR REPLACE VIEW leaked_pictures AS
WITH keyed AS (
    SELECT
        source, split, language, pixels, is_in_own,
        unnest([{'kind': 'pixels', 'key': pixels}, {'kind': 'name', 'key': telling_name}], recursive := true)
    FROM (
        SELECT *, CASE WHEN count(DISTINCT pixels) OVER (PARTITION BY source, split, name) = 1 THEN name END
            AS telling_name
        FROM asked_pictures
    )
)
SELECT
    late.source, late.split, late.language, other_split, other.language AS other_language, late.pixels,
    bool_or(late.kind = 'pixels') AS is_by_pixels, bool_or(late.kind = 'name') AS is_by_name,
    bool_or(late.is_in_own AND other.is_in_own) AS is_by_own
FROM keyed AS late
JOIN split_order USING (split)
JOIN keyed AS other
    ON other.split = other_split AND other.source = late.source AND other.kind = late.kind AND other.key = late.key
GROUP BY ALL;
COMMENT ON VIEW leaked_pictures IS 'Pictures of a split that another split also has, by pixels or by name, per language.';

-- Sets that were made from one pool of pictures: what one trains on, another tests with.
CREATE OR REPLACE VIEW families AS
FROM (
    VALUES
        ('nih', ['nih-cxr14', 'slake', 'rsna-pneumonia', 'siim-acr']),
        ('mimic', ['mimic-cxr', 'ms-cxr', 'reflacx', 'eyegaze', 'mimic-eye', 'chest-imagenome']),
        ('pmc', ['pmc-vqa', 'pmc-oa', 'llava-med', 'pubmedvision'])
) AS known(family, sources);
COMMENT ON VIEW families IS 'Sources that share pictures, by the pool they were made from.';

-- The same words, however they are spaced and capitalised.
CREATE OR REPLACE VIEW wordings AS
SELECT
    slice, question_id, source, split, language, answer_kind, phrase_type, image_ids,
    coalesce(lower(answer_type), answer_kind) AS kind,
    lower(regexp_replace(trim(question), '\s+', ' ', 'g')) AS question,
    lower(regexp_replace(trim(answer), '\s+', ' ', 'g')) AS answer,
    trim(answer) AS written
FROM questions;
COMMENT ON VIEW wordings IS 'Questions and answers in lower case with single spaces, for comparing texts.';

CREATE OR REPLACE VIEW answer_balance AS
SELECT
    source, split, answer_kind, sum(n)::BIGINT AS n_questions,
    arg_max(answer, (n, answer)) AS answer, max(n) / sum(n) AS share
FROM (SELECT source, split, answer_kind, answer, count(*) AS n FROM wordings GROUP BY ALL)
GROUP BY source, split, answer_kind;
COMMENT ON VIEW answer_balance IS 'The most common answer of each source, split and kind of answer, and its share.';

-- Of answers equally common the one asked first is guessed; "own" leaves templated training rows out.
CREATE OR REPLACE VIEW question_only AS
WITH rows_of AS (
    SELECT *, 'all' AS train_rows FROM wordings
    UNION ALL
    SELECT *, 'own' FROM wordings
    WHERE phrase_type IS DISTINCT FROM 'frame'
        AND source IN (SELECT source FROM wordings WHERE phrase_type = 'frame')
),
trained AS (
    SELECT
        source, language, train_rows, kind, question, answer, count(*) AS n,
        min((length(question_id), question_id)) AS asked_first,
        arg_min(written, (length(question_id), question_id)) AS written
    FROM rows_of WHERE split = 'train' GROUP BY ALL
),
by_question AS (
    SELECT
        source, language, train_rows, question,
        arg_min(answer, (-n, asked_first)) AS guess, arg_min(written, (-n, asked_first)) AS written
    FROM (
        SELECT
            source, language, train_rows, question, answer, sum(n) AS n, min(asked_first) AS asked_first,
            arg_min(written, asked_first) AS written
        FROM trained GROUP BY ALL
    )
    GROUP BY ALL
),
by_kind AS (
    SELECT source, language, train_rows, kind, arg_max(answer, (n, answer)) AS guess
    FROM (SELECT source, language, train_rows, kind, answer, sum(n) AS n FROM trained GROUP BY ALL)
    GROUP BY ALL
)
SELECT
    asked.source, asked.split, asked.language, training.train_rows, coalesce(asked.kind, 'all') AS kind,
    count(*) AS n_questions,
    avg(coalesce(asked.answer = coalesce(by_question.guess, by_kind.guess), false)::INTEGER) AS accuracy,
    avg(coalesce(asked.answer = by_question.guess, false)::INTEGER) AS known_accuracy,
    avg(coalesce(asked.written = by_question.written, false)::INTEGER) AS known_accuracy_as_written
FROM wordings AS asked
JOIN (SELECT DISTINCT source, language, train_rows FROM by_kind) AS training USING (source, language)
LEFT JOIN by_kind USING (source, language, train_rows, kind)
LEFT JOIN by_question USING (source, language, train_rows, question)
WHERE asked.split <> 'train'
GROUP BY GROUPING SETS (
    (asked.source, asked.split, asked.language, training.train_rows, asked.kind),
    (asked.source, asked.split, asked.language, training.train_rows)
);
COMMENT ON VIEW question_only IS
    'Accuracy without looking: the most common train answer to the same wording, else wrong (known) or that to the same kind of question.';
