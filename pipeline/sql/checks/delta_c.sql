-- id: delta_c
-- severity: error
-- explain: Δc of a drill is (after − before) / (before + 1e-6), to a millionth
SELECT step_key(slice, question_id, origin, variant, step) AS key,
    printf('stored %.8f, recomputed %.8f', delta_c, delta_c(conf_before, conf_after)) AS detail
FROM steps_conf
WHERE mode = 'drill' AND NOT agrees(delta_c, delta_c(conf_before, conf_after))
