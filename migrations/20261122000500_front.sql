-- Where a queue's workers have got to, for those who give turns: the earliest turn of a ready run within `since` and `until`,
-- or null where all of them have been taken. As in `engine.claim`, the index is walked in order whatever the planner believes.
create function engine.front(the_queue text, since timestamptz, until timestamptz) returns timestamptz
language plpgsql stable set plan_cache_mode = force_generic_plan set enable_bitmapscan = off set enable_sort = off as $$
begin
    return (
        select r.due_at from engine.run r
        where r.queue = the_queue and r.state = 'ready' and r.due_at >= since and r.due_at <= until
        order by r.due_at limit 1);
end $$;
