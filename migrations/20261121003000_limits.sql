-- What services have used up, where no Redis keeps that (src/api/limits.rs): exact over all API processes. A count that a
-- crash of Postgres loses is lost in the service's favour, so nothing here waits for the disk.
create table rate_buckets (
    service_id uuid not null,
    key_type text not null,
    tokens double precision not null,
    refilled_at timestamptz not null,
    primary key (service_id, key_type)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

create table daily_counts (
    service_id uuid not null,
    name text not null, -- sms, email, letter, international_sms
    day date not null, -- UTC
    count bigint not null,
    primary key (service_id, name, day)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Takes up to `wanted` tokens from each bucket, which is filled up first. One always stays: Notify refuses the request
-- that would leave less. Each bucket may be named once; they are locked in one order by everybody.
create function take_tokens(
    service_ids uuid[], key_types text[], wanted bigint[], per_second double precision[], sizes double precision[])
returns table (service_id uuid, key_type text, granted bigint)
language plpgsql as $$
#variable_conflict use_column
begin
    perform set_config('synchronous_commit', 'off', true);
    insert into rate_buckets (service_id, key_type, tokens, refilled_at)
    select a.service_id, a.key_type, a.size, clock_timestamp()
    from unnest(service_ids, key_types, sizes) a (service_id, key_type, size)
    where not exists (select from rate_buckets b where b.service_id = a.service_id and b.key_type = a.key_type)
    order by a.service_id, a.key_type
    on conflict do nothing;
    return query
    update rate_buckets b set tokens = f.filled - f.granted, refilled_at = f.at
    from (
        select l.service_id, l.key_type, l.at, l.filled, least(l.wanted, greatest(floor(l.filled - 1), 0))::bigint as granted
        from (
            select b.service_id, b.key_type, a.wanted, clock_timestamp() as at, least(a.size, b.tokens + a.per_second
                * greatest(0, extract(epoch from clock_timestamp() - b.refilled_at))) as filled
            from unnest(service_ids, key_types, wanted, per_second, sizes) a (service_id, key_type, wanted, per_second, size)
            join rate_buckets b on b.service_id = a.service_id and b.key_type = a.key_type
            order by b.service_id, b.key_type
            for no key update of b) l) f
    where b.service_id = f.service_id and b.key_type = f.key_type
    returning b.service_id, b.key_type, f.granted;
end $$;

-- Counts up to `wanted` messages of today, as far as each limit allows.
create function reserve_messages(service_ids uuid[], names text[], wanted bigint[], limits bigint[])
returns table (service_id uuid, name text, day date, granted bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    today date := (now() at time zone 'utc')::date;
begin
    perform set_config('synchronous_commit', 'off', true);
    insert into daily_counts (service_id, name, day, count)
    select a.service_id, a.name, today, 0 from unnest(service_ids, names) a (service_id, name)
    where not exists (
        select from daily_counts d where d.service_id = a.service_id and d.name = a.name and d.day = today)
    order by a.service_id, a.name
    on conflict do nothing;
    return query
    update daily_counts d set count = d.count + f.granted
    from (
        select d.service_id, d.name, least(a.wanted, greatest(a.most - d.count, 0)) as granted
        from unnest(service_ids, names, wanted, limits) a (service_id, name, wanted, most)
        join daily_counts d on d.service_id = a.service_id and d.name = a.name and d.day = today
        order by d.service_id, d.name
        for no key update of d) f
    where d.service_id = f.service_id and d.name = f.name and d.day = today
    returning d.service_id, d.name, d.day, f.granted;
end $$;

-- Takes messages back that were counted and did not come to be.
create function give_back_messages(service_ids uuid[], names text[], days date[], counts bigint[])
returns void language plpgsql as $$
begin
    perform set_config('synchronous_commit', 'off', true);
    update daily_counts d set count = greatest(d.count - f.count, 0)
    from (
        select d.service_id, d.name, d.day, a.count
        from unnest(service_ids, names, days, counts) a (service_id, name, day, count)
        join daily_counts d on d.service_id = a.service_id and d.name = a.name and d.day = a.day
        order by d.service_id, d.name, d.day
        for no key update of d) f
    where d.service_id = f.service_id and d.name = f.name and d.day = f.day;
end $$;
