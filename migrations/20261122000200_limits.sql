-- take_tokens and reserve_messages as they were, but for this: a row is looked for once, not three times, and changed at the
-- place where it was found and locked. While an old transaction keeps Postgres from cleaning, every look for a row that
-- changes all the time goes through all its former versions.
create or replace function take_tokens(
    service_ids uuid[], key_types text[], wanted bigint[], per_second double precision[], sizes double precision[])
returns table (service_id uuid, key_type text, granted bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    done bigint[] := '{}';
    bucket record;
    at timestamptz;
    filled double precision;
begin
    perform set_config('synchronous_commit', 'off', true);
    loop
        for bucket in
            select a.n, b.ctid as place, b.service_id, b.key_type, b.tokens, b.refilled_at, a.wanted, a.per_second, a.size
            from unnest(service_ids, key_types, wanted, per_second, sizes) with ordinality
                a (service_id, key_type, wanted, per_second, size, n)
            join rate_buckets b on b.service_id = a.service_id and b.key_type = a.key_type
            where a.n <> all (done)
            order by b.service_id, b.key_type
            for no key update of b
        loop
            at := clock_timestamp();
            filled := least(bucket.size, bucket.tokens
                + bucket.per_second * greatest(0, extract(epoch from at - bucket.refilled_at)));
            service_id := bucket.service_id;
            key_type := bucket.key_type;
            granted := least(bucket.wanted, greatest(floor(filled - 1), 0));
            update rate_buckets b set tokens = filled - granted, refilled_at = at where b.ctid = bucket.place;
            done := done || bucket.n;
            return next;
        end loop;
        exit when cardinality(done) = cardinality(service_ids);
        insert into rate_buckets (service_id, key_type, tokens, refilled_at)
        select a.service_id, a.key_type, a.size, clock_timestamp()
        from unnest(service_ids, key_types, sizes) with ordinality a (service_id, key_type, size, n)
        where a.n <> all (done)
        order by a.service_id, a.key_type
        on conflict do nothing;
    end loop;
end $$;

create or replace function reserve_messages(service_ids uuid[], names text[], wanted bigint[], limits bigint[])
returns table (service_id uuid, name text, day date, granted bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    today date := (now() at time zone 'utc')::date;
    done bigint[] := '{}';
    counter record;
begin
    perform set_config('synchronous_commit', 'off', true);
    loop
        for counter in
            select a.n, d.ctid as place, d.service_id, d.name, d.day, d.count, a.wanted, a.most
            from unnest(service_ids, names, wanted, limits) with ordinality a (service_id, name, wanted, most, n)
            join daily_counts d on d.service_id = a.service_id and d.name = a.name and d.day = today
            where a.n <> all (done)
            order by d.service_id, d.name
            for no key update of d
        loop
            service_id := counter.service_id;
            name := counter.name;
            day := counter.day;
            granted := least(counter.wanted, greatest(counter.most - counter.count, 0));
            update daily_counts d set count = counter.count + granted where d.ctid = counter.place;
            done := done || counter.n;
            return next;
        end loop;
        exit when cardinality(done) = cardinality(service_ids);
        insert into daily_counts (service_id, name, day, count)
        select a.service_id, a.name, today, 0
        from unnest(service_ids, names) with ordinality a (service_id, name, n)
        where a.n <> all (done)
        order by a.service_id, a.name
        on conflict do nothing;
    end loop;
end $$;
