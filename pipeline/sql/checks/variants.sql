-- id: variants
-- severity: error
-- needs: trajectories
-- explain: plain GRN and the ablations are variant 0, once per question; CVS variants count from 1 and have their plain GRN
SELECT trajectory_key(slice, question_id, origin, variant) AS key, 'variant ' || variant || ' of ' || origin AS detail
FROM trajectories
WHERE (origin = 'cvs') <> (variant > 0) OR variant < 0
UNION ALL
SELECT DISTINCT slice || ' ' || question_id, 'has no plain GRN trajectory'
FROM trajectories
ANTI JOIN (SELECT slice, question_id FROM trajectories WHERE origin = 'grn') USING (slice, question_id)
