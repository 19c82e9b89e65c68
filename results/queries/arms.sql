-- How do the arms of each study compare: trials done, mean and spread of their accuracy, and what they cost?
SELECT m.study, m.arm, count(*) FILTER (t.status = 'done') AS done, count(*) AS planned,
    avg(t.test_accuracy) AS test_accuracy, stddev(t.test_accuracy) AS spread, avg(t.val_accuracy) AS val_accuracy,
    avg(t.seconds) AS seconds
FROM members m LEFT JOIN trials t USING (trial_key)
WHERE coalesce(m.study = getvariable('study'), true)
GROUP BY m.study, m.arm
ORDER BY m.study, test_accuracy DESC NULLS LAST, m.arm
