-- id: stop_reason
-- severity: error
-- explain: the search stopped at the first reason: confident above ξ, length at looks_max, else exhausted; never while drilling on
WITH last_look AS (
    SELECT *, list_max([i FOR i IN generate_series(1, len(step_mode)) IF step_mode[i] <> 'scan']) AS l FROM trajectories
),
judged AS (
    SELECT
        slice, question_id, origin, variant, stop_reason,
        CASE
            WHEN origin_fallback = 'whole_image' THEN 'exhausted'
            WHEN step_conf_after[l]::DOUBLE > confident_at THEN 'confident'
            WHEN len(list_filter(step_mode, lambda mode: mode <> 'scan')) >= looks_max THEN 'length'
            WHEN delta_c(step_conf_before[l], step_conf_after[l]) >= gain_min THEN 'nothing: the region still gains'
            ELSE 'exhausted'
        END AS true_reason,
        list_min([
            i FOR i IN generate_series(1, l - 1) IF step_conf_after[i]::DOUBLE > confident_at
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
