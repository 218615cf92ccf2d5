-- Keeping house waits a tenth of a second for a lock, not as long as statements of others do: while it waits behind a long
-- reader, such as a dump, everybody who comes after it waits behind it. What could not be locked is done another time: days
-- are made a week ahead, and the oldest may stay.
create or replace function engine.make_partitions(days_ahead integer) returns void language plpgsql set lock_timeout = '100ms' as $$
declare
    day date;
    kind text;
    name text;
begin
    perform pg_advisory_xact_lock(hashtext('engine.make_partitions'));
    for day in select d::date from generate_series(
        (now() at time zone 'utc')::date, (now() at time zone 'utc')::date + days_ahead, interval '1 day') d
    loop
        foreach kind in array array['journal', 'signal'] loop
            name := kind || to_char(day, '_YYYYMMDD');
            continue when to_regclass(format('engine.%I', name)) is not null;
            begin
                execute format('create table engine.%I (like engine.%I including defaults including constraints)', name, kind);
                execute format('alter table engine.%I attach partition engine.%I for values from (%L) to (%L)',
                    kind, name, engine.first_id_of(day), engine.first_id_of(day + 1));
            exception
                when check_violation then
                    -- Nobody made this one in time: its rows are in the default partition, and may stay there.
                    raise warning 'the partition % was not made in time', name;
                when lock_not_available then
                    raise warning 'the partition % could not be made yet: somebody keeps a lock', name;
            end;
        end loop;
    end loop;
exception when lock_not_available then
    -- Somebody else is at it.
    return;
end $$;

create or replace function engine.drop_partition(keep_days integer) returns text language plpgsql set lock_timeout = '100ms' as $$
declare
    last_day date := (now() at time zone 'utc')::date - keep_days;
    child record;
begin
    for child in
        select c.oid::regclass::text as old, i.inhparent::regclass as parent, to_date(right(c.relname, 8), 'YYYYMMDD') as day
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent in ('engine.journal'::regclass, 'engine.signal'::regclass) and c.relname ~ '_\d{8}$'
        order by 3, 1
    loop
        exit when child.day >= last_day;
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
            continue;
        end;
    end loop;
    return null;
end $$;
