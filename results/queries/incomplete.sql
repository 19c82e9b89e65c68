-- How often are triplets judged incompletely at each threshold, and how good is that slice alone?
SELECT m.study, t.form, s.threshold, count(DISTINCT s.trial_key) AS trials, avg(s.incomplete_rate) AS incomplete_rate,
    avg(s.active_rate) AS active_rate, avg(s.population_incomplete_rate) AS population_incomplete_rate,
    avg(s.knn_accuracy) AS knn_accuracy
FROM slices s JOIN trials t USING (trial_key) JOIN members m USING (trial_key)
WHERE coalesce(m.study = getvariable('study'), true)
GROUP BY m.study, t.form, s.threshold
ORDER BY m.study, t.form, s.threshold
