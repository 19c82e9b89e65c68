-- Which trials failed, and why?
SELECT m.study, m.arm, m.fold, m.seed, t.epochs, t.host, t.ended_at, t.error
FROM trials t JOIN members m USING (trial_key)
WHERE t.status = 'failed' AND coalesce(m.study = getvariable('study'), true)
ORDER BY m.study, m.index
