-- As before, but goes no further in a table once a partition does not come off it: the next one would not either, and what
-- was emptied is locked until this ends.
create or replace function engine.drop_partition(keep_days integer) returns text language plpgsql set lock_timeout = '100ms' as $$
declare
    last_day date := (now() at time zone 'utc')::date - keep_days;
    child record;
    stuck regclass[] := '{}';
begin
    for child in
        select c.oid::regclass::text as old, i.inhparent::regclass as parent, to_date(right(c.relname, 8), 'YYYYMMDD') as day
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent in ('engine.journal'::regclass, 'engine.signal'::regclass) and c.relname ~ '_\d{8}$'
        order by 3, 1
    loop
        exit when child.day >= last_day;
        continue when child.parent = any (stuck);
        continue when exists (
            select from engine.run where id >= engine.first_id_of(child.day) and id < engine.first_id_of(child.day + 1));
        begin
            execute format('truncate %s', child.old);
        exception when lock_not_available then
            continue;
        end;
        begin
            execute format('alter table %s detach partition %s', child.parent, child.old);
            execute format('drop table %s', child.old);
            return child.old;
        exception when lock_not_available then
            stuck := stuck || child.parent;
        end;
    end loop;
    return null;
end $$;
