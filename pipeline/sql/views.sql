-- Views for people. Steps are parallel lists in `trajectories`; here one row is one step, numbered from 0.
-- An unused unnest is not pruned, so the narrow views are faster than `steps` wherever they suffice.
-- `image` counts the images of the question from 0; `image_id` is that image.

CREATE OR REPLACE VIEW steps_geom AS
SELECT slice, question_id, origin, variant, image_ids[image + 1] AS image_id, * EXCLUDE (
    slice, question_id, origin, variant, image_ids
)
FROM (
    SELECT
        slice, question_id, origin, variant, image_ids,
        generate_subscripts(step_mode, 1) - 1 AS step,
        unnest(step_image) AS image,
        unnest(step_mode) AS mode,
        unnest(step_round) AS round,
        unnest(step_region) AS region,
        unnest(step_x0)::DOUBLE AS x0,
        unnest(step_y0)::DOUBLE AS y0,
        unnest(step_x1)::DOUBLE AS x1,
        unnest(step_y1)::DOUBLE AS y1,
        unnest(step_look_x0)::DOUBLE AS look_x0,
        unnest(step_look_y0)::DOUBLE AS look_y0,
        unnest(step_look_x1)::DOUBLE AS look_x1,
        unnest(step_look_y1)::DOUBLE AS look_y1,
        unnest(step_call_id) AS call_id
    FROM trajectories
);
COMMENT ON VIEW steps_geom IS 'One step per row: its region and its crop, pixels of the stored image.';

CREATE OR REPLACE VIEW steps_conf AS
SELECT
    slice, question_id, origin, variant,
    gain_min, confident_at, looks_max, mass, temperature, crossing, stop_reason,
    generate_subscripts(step_mode, 1) - 1 AS step,
    unnest(step_mode) AS mode,
    unnest(step_round) AS round,
    unnest(step_region) AS region,
    unnest(step_conf_before)::DOUBLE AS conf_before,
    unnest(step_conf_after)::DOUBLE AS conf_after,
    unnest(step_delta_c)::DOUBLE AS delta_c,
    unnest(step_candidates) AS candidates,
    unnest(step_candidate_conf) AS candidate_conf,
    unnest(step_nucleus) AS nucleus,
    unnest(step_prob)::DOUBLE AS prob,
    unnest(step_rank) AS rank,
    unnest(step_call_id) AS call_id
FROM trajectories;
COMMENT ON VIEW steps_conf IS 'One step per row: confidences, Δc, and the choice with its candidates and nucleus.';

CREATE OR REPLACE VIEW steps_text AS
SELECT
    slice, question_id, origin, variant, source, split,
    generate_subscripts(step_mode, 1) - 1 AS step,
    unnest(step_mode) AS mode,
    unnest(step_text) AS text
FROM trajectories;
COMMENT ON VIEW steps_text IS 'One step per row: the words of the expert.';

CREATE OR REPLACE VIEW steps AS
SELECT slice, question_id, origin, variant, image_ids[image + 1] AS image_id, * EXCLUDE (
    slice, question_id, origin, variant, image_ids
)
FROM (
    SELECT
        slice, question_id, origin, variant, image_ids, source, split, origin_fallback, expert, privileged,
        gain_min, confident_at, looks_max, mass, temperature, crossing, stop_reason, n_looks,
        generate_subscripts(step_mode, 1) - 1 AS step,
        unnest(step_image) AS image,
        unnest(step_mode) AS mode,
        unnest(step_round) AS round,
        unnest(step_region) AS region,
        unnest(step_x0)::DOUBLE AS x0,
        unnest(step_y0)::DOUBLE AS y0,
        unnest(step_x1)::DOUBLE AS x1,
        unnest(step_y1)::DOUBLE AS y1,
        unnest(step_look_x0)::DOUBLE AS look_x0,
        unnest(step_look_y0)::DOUBLE AS look_y0,
        unnest(step_look_x1)::DOUBLE AS look_x1,
        unnest(step_look_y1)::DOUBLE AS look_y1,
        unnest(step_conf_before)::DOUBLE AS conf_before,
        unnest(step_conf_after)::DOUBLE AS conf_after,
        unnest(step_delta_c)::DOUBLE AS delta_c,
        unnest(step_candidates) AS candidates,
        unnest(step_candidate_conf) AS candidate_conf,
        unnest(step_nucleus) AS nucleus,
        unnest(step_prob)::DOUBLE AS prob,
        unnest(step_rank) AS rank,
        unnest(step_call_id) AS call_id,
        unnest(step_text) AS text
    FROM trajectories
);
COMMENT ON VIEW steps IS 'One step per row, all columns.';

CREATE OR REPLACE VIEW known_regions AS
SELECT slice, question_id, origin, variant, image_ids[image + 1] AS image_id, * EXCLUDE (
    slice, question_id, origin, variant, image_ids
)
FROM (
    SELECT
        slice, question_id, origin, variant, image_ids,
        generate_subscripts(region_label, 1) - 1 AS region,
        unnest(region_image) AS image,
        unnest(region_x0)::DOUBLE AS x0,
        unnest(region_y0)::DOUBLE AS y0,
        unnest(region_x1)::DOUBLE AS x1,
        unnest(region_y1)::DOUBLE AS y1,
        unnest(region_label) AS label,
        unnest(region_conf)::DOUBLE AS conf,
        unnest(region_call_id) AS call_id
    FROM trajectories
);
COMMENT ON VIEW known_regions IS 'One region per row that a trajectory knew, as it entered; region is its id.';

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

CREATE OR REPLACE VIEW call_counts AS
SELECT
    slice,
    count(DISTINCT call_id) FILTER (origin = 'grn' AND variant = 0) AS n_calls_grn,
    count(DISTINCT call_id) FILTER (origin IN ('grn', 'cvs')) AS n_calls_grn_cvs,
    n_calls_grn_cvs / nullif(n_calls_grn, 0) AS ratio
FROM (
    SELECT slice, origin, variant, unnest(list_concat(step_call_id, region_call_id)) AS call_id
    FROM trajectories
)
GROUP BY slice;
COMMENT ON VIEW call_counts IS
    'Distinct expert calls that plain GRN needed, and plain GRN with its CVS variants, per slice.';

CREATE OR REPLACE VIEW variants_per_question AS
SELECT
    slice, question_id,
    count(*) AS n_variants,
    count(DISTINCT {'regions': step_region, 'modes': step_mode}) AS n_paths,
    sum(n_redraws)::BIGINT AS n_redraws
FROM trajectories
WHERE origin IN ('grn', 'cvs')
GROUP BY slice, question_id;
COMMENT ON VIEW variants_per_question IS 'Plain GRN and CVS variants of a question, and how many different ways they go.';

-- What each choice should have been, recomputed from the stored candidates: P ∝ exp(c / τ) by falling confidence, of
-- equals the lowest id first; the nucleus keeps the longest prefix with Σ P ≤ p₀ (1e-9 for float sums), at least one.
CREATE OR REPLACE VIEW choices AS
WITH ranked AS (
    SELECT
        *,
        list_sort([
            {'below': -candidate_conf[i]::DOUBLE, 'id': candidates[i]} FOR i IN generate_series(1, len(candidates))
        ]) AS sorted
    FROM steps_conf
    WHERE len(candidates) > 0
),
weighted AS (
    SELECT *, [exp((sorted[1].below - one.below) / temperature) FOR one IN sorted] AS weights
    FROM ranked
),
summed AS (
    SELECT
        *,
        [weight / list_sum(weights) FOR weight IN weights] AS probabilities,
        [list_sum(weights[1:i]) / list_sum(weights) FOR i IN generate_series(1, len(weights))] AS masses
    FROM weighted
),
counted AS (
    SELECT *, len(list_filter(masses, lambda m: m <= mass + 1e-9)) AS n_below FROM summed
)
SELECT
    slice, question_id, origin, variant, step, region, candidates, candidate_conf, nucleus, prob, rank,
    mass, temperature, crossing,
    [one.id FOR one IN sorted] AS ranked_ids,
    probabilities AS ranked_probs,
    CASE
        WHEN crossing = 'include' AND coalesce(masses[n_below], 0) < mass - 1e-9 THEN n_below + 1
        ELSE greatest(1, n_below)
    END AS n_nucleus,
    list_position(ranked_ids, region) - 1 AS true_rank
FROM counted;
COMMENT ON VIEW choices IS 'One choice of a region per row, with ranking, probabilities and nucleus recomputed.';

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
