-- By which code were the trials of each study made, and when?
SELECT m.study, t.git_commit, t.git_dirty, t.numerics, t.data_fingerprint, count(*) AS trials,
    min(t.started_at) AS first, max(t.ended_at) AS last
FROM trials t JOIN members m USING (trial_key)
WHERE coalesce(m.study = getvariable('study'), true)
GROUP BY ALL
ORDER BY m.study, first
