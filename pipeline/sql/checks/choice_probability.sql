-- id: choice_probability
-- severity: error
-- explain: probability and rank of the chosen region are those of the softmax over all candidates, to a millionth
SELECT step_key(slice, question_id, origin, variant, step) AS key,
    printf('stored probability %.8f rank %d, recomputed %s rank %s', prob, rank,
        coalesce(printf('%.8f', ranked_probs[true_rank + 1]), 'none'), coalesce(true_rank::VARCHAR, 'none')) AS detail
FROM choices
WHERE rank IS DISTINCT FROM true_rank OR NOT agrees(prob, ranked_probs[true_rank + 1])
