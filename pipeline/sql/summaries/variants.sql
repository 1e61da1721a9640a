-- How many different paths the questions have, plain GRN and CVS variants together.
SELECT slice, n_paths, count(*) AS n_questions, sum(n_redraws)::BIGINT AS n_redraws
FROM variants_per_question
GROUP BY slice, n_paths
ORDER BY slice, n_paths
