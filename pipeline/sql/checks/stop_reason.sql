-- id: stop_reason
-- severity: error
-- explain: the search stopped at the first reason: confident above ξ, length at looks_max, else exhausted; never while drilling on; whole images are only counted
WITH last_look AS (
    SELECT
        *,
        list_max([i FOR i IN generate_series(1, len(step_mode)) IF step_mode[i] <> 'scan']) AS l,
        len(list_filter(step_mode, lambda mode: mode <> 'scan')) AS n_true
    FROM trajectories
),
judged AS (
    SELECT
        slice, question_id, origin, variant, stop_reason,
        CASE
            WHEN origin_fallback = 'whole_image' AND n_true >= len(image_ids) THEN 'exhausted'
            WHEN origin_fallback = 'whole_image' AND n_true < looks_max THEN 'nothing: an image is left'
            WHEN origin_fallback = 'whole_image' THEN 'length'
            WHEN step_conf_after[l]::DOUBLE > confident_at THEN 'confident'
            WHEN n_true >= looks_max THEN 'length'
            WHEN delta_c(step_conf_before[l], step_conf_after[l]) >= gain_min THEN 'nothing: the region still gains'
            ELSE 'exhausted'
        END AS true_reason,
        list_min([
            i FOR i IN generate_series(1, l - 1) IF origin_fallback IS NULL AND step_conf_after[i]::DOUBLE > confident_at
        ]) - 1 AS earlier
    FROM last_look
)
SELECT
    CASE WHEN earlier IS NULL THEN trajectory_key(slice, question_id, origin, variant)
         ELSE step_key(slice, question_id, origin, variant, earlier) END AS key,
    CASE WHEN earlier IS NULL THEN printf('stopped by %s, recomputed %s', stop_reason, true_reason)
         ELSE 'confident here already, but the search went on' END AS detail
FROM judged
WHERE stop_reason <> true_reason OR earlier IS NOT NULL
