-- Sees what no look from outside could: each change that the oracle forbids is kept, at the moment it happens.
create schema witness;
create table witness.offence (at timestamptz not null default clock_timestamp(), what text not null);

create function witness.rank(status text) returns integer immutable language sql
    return case status when 'created' then 0 when 'sending' then 1 when 'pending' then 2 else 3 end;

create function witness.status_went_back() returns trigger language plpgsql as $$
begin
    insert into witness.offence (what)
    values (format('%s went from %s to %s', new.id, old.notification_status, new.notification_status));
    return null;
end $$;

create trigger status_went_back after update on notifications for each row
    when (witness.rank(new.notification_status::text) < witness.rank(old.notification_status::text)
        or (witness.rank(old.notification_status::text) = 3 and new.notification_status is distinct from old.notification_status))
    execute function witness.status_went_back();

-- A run's row is locked by whoever writes its journal, so its epoch is the one that counts.
create function witness.written_without_lease() returns trigger language plpgsql as $$
begin
    insert into witness.offence (what)
    select format('%s seq %s was written by epoch %s while %s held it', a.run_id, a.seq, a.epoch, coalesce(r.epoch::text, 'nobody'))
    from added a
    -- Run by run, whatever the planner believes of the table's size.
    left join lateral (select epoch, state from engine.run where id = a.run_id offset 0) r on true
    where r.epoch is distinct from a.epoch or r.state is distinct from 'running';
    return null;
end $$;

create trigger written_without_lease after insert on engine.journal
    referencing new table as added for each statement execute function witness.written_without_lease();

-- What sleeps or waits may be woken early, which makes it ready; it is not claimed before its time.
create function witness.claimed_before_its_time() returns trigger language plpgsql as $$
begin
    insert into witness.offence (what)
    values (format('%s, which was %s until %s, was claimed', new.id, old.state, old.due_at));
    return null;
end $$;

create trigger claimed_before_its_time after update on engine.run for each row
    when (old.state in ('sleeping', 'waiting', 'parked') and new.state = 'running' and old.due_at > clock_timestamp())
    execute function witness.claimed_before_its_time();
