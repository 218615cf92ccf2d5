-- Runs that nobody can go on with until people act, by state, queue and age: they are few among many, and must be found without
-- a walk over all live runs.
create index run_dead on engine.run (state, queue, id) where state in ('failed', 'parked');
drop index engine.run_failed;
