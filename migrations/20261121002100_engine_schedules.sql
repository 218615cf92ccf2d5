-- Schedules: which instants of each have been decided, and what was decided about them.
create table engine.schedule (
    name text primary key, -- frozen name of the schedule; the expression itself is code
    -- Instants up to here are decided; the next look begins after it. By the database's clock. A beat locks this row
    -- before it decides anything, so that any number of beats decide each instant once.
    decided_until timestamptz not null
);

-- One row an instant that was decided: it committed together with the start of its run.
create table engine.firing (
    schedule text not null,
    planned_at timestamptz not null, -- the instant that the expression means
    outcome text not null check (outcome in ('fired', 'skipped')),
    reason text, -- why it was skipped
    run_id uuid, -- the run that it started; that run may be over
    at timestamptz not null default now(), -- when it was decided
    primary key (schedule, planned_at),
    constraint firing_names_its_run check ((outcome = 'fired') = (run_id is not null)),
    constraint firing_says_why_it_was_skipped check ((outcome = 'skipped') = (reason is not null))
);
