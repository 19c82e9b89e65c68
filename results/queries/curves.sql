-- How do the arms of each study learn: mean loss and accuracy of every epoch?
SELECT m.study, m.arm, e.epoch, count(*) AS trials, avg(e.train_loss) AS train_loss,
    avg(e.train_accuracy) AS train_accuracy, avg(e.val_accuracy) AS val_accuracy, stddev(e.val_accuracy) AS spread
FROM epochs e JOIN members m USING (trial_key)
WHERE coalesce(m.study = getvariable('study'), true)
GROUP BY m.study, m.arm, e.epoch
ORDER BY m.study, m.arm, e.epoch
