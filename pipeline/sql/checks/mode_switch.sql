-- id: mode_switch
-- severity: error
-- explain: a drill that gains at least δ is followed by the next round on its region, any other, and one of a whole image, by a scan or another region
WITH followed AS (
    SELECT
        slice, question_id, origin, variant, origin_fallback, gain_min, list_contains(step_mode, 'scan') AS scans,
        generate_subscripts(step_mode, 1) - 1 AS step,
        unnest(step_mode) AS mode,
        unnest(step_round) AS round,
        unnest(step_region) AS region,
        unnest(step_conf_before) AS conf_before,
        unnest(step_conf_after) AS conf_after,
        unnest(step_mode[2:]) AS next_mode,
        unnest(step_round[2:]) AS next_round,
        unnest(step_region[2:]) AS next_region
    FROM trajectories
),
judged AS (
    SELECT
        *,
        mode = 'drill' AND delta_c(conf_before, conf_after) >= gain_min AND origin_fallback IS NULL AS keeps,
        coalesce(next_mode = 'drill' AND next_region = region AND next_round = round + 1, false) AS is_kept
    FROM followed
    WHERE next_mode IS NOT NULL
)
SELECT step_key(slice, question_id, origin, variant, step) AS key,
    CASE
        WHEN keeps THEN printf('gain %.6f reaches %g, but the region is left',
            delta_c(conf_before, conf_after), gain_min)
        WHEN is_kept THEN printf('gain %.6f against %g is no reason, but the region is drilled again',
            delta_c(conf_before, conf_after), gain_min)
        ELSE printf('%s round %d comes after %s', next_mode, next_round, mode)
    END AS detail
FROM judged
WHERE keeps <> is_kept
    OR (next_mode <> 'scan' AND NOT is_kept AND (next_round > 1 OR (scans AND mode <> 'scan')))
