-- Which expressions are taken for which: the share of each true class over all test images of an arm?
SELECT m.study, m.arm, c.truth_class, c.predicted_class, sum(c.count) AS images,
    sum(c.count) / sum(sum(c.count)) OVER (PARTITION BY m.study, m.arm, c.truth_class) AS share
FROM confusion c JOIN members m USING (trial_key)
WHERE c.split = 'test' AND coalesce(m.study = getvariable('study'), true)
GROUP BY m.study, m.arm, c.truth_class, c.predicted_class
ORDER BY m.study, m.arm, c.truth_class, images DESC, c.predicted_class
