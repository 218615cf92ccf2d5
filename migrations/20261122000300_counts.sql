-- Blocked runs, queue by queue: they are counted, and a queue that holds nothing else is found. Only keyed runs whose key
-- is taken are in this index; claims do not read it.
create index run_blocked_queue on engine.run (queue, due_at) where state = 'blocked';

-- How many live runs of a queue are in a state, as the planner believes: for numbers that are too large to count. What
-- people paused, and no worker holds, is counted as `paused` alone: it is due at infinity.
create or replace function engine.estimate(the_queue text, the_state text) returns bigint language plpgsql as $$
declare
    counted text := case the_state
        when 'paused' then $c$due_at = 'infinity' and state in ('ready', 'blocked', 'waiting', 'sleeping', 'parked')$c$
        when 'failed' then $c$state = 'failed'$c$
        else format($c$due_at < 'infinity' and state = %L$c$, the_state)
    end;
    plan json;
begin
    execute format('explain (format json) select from engine.run where queue = %L and %s', the_queue, counted)
    into plan;
    return (plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
end $$;
