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
