-- Tells every API process at once when something has changed that it keeps for a moment. The payload is not needed: a
-- process forgets all that it keeps, which costs what its age costs anyway.
create function tell_of_change() returns trigger language plpgsql as $$
begin
    perform pg_notify('herald_changes', '');
    return null;
end $$;

create trigger tell_of_change after insert or update or delete or truncate on services
    for each statement execute function tell_of_change();
create trigger tell_of_change after insert or update or delete or truncate on service_permissions
    for each statement execute function tell_of_change();
create trigger tell_of_change after insert or update or delete or truncate on api_keys
    for each statement execute function tell_of_change();
create trigger tell_of_change after insert or update or delete or truncate on templates
    for each statement execute function tell_of_change();
create trigger tell_of_change after insert or update or delete or truncate on template_redacted
    for each statement execute function tell_of_change();
create trigger tell_of_change after insert or update or delete or truncate on service_sms_senders
    for each statement execute function tell_of_change();
create trigger tell_of_change after insert or update or delete or truncate on service_email_reply_to
    for each statement execute function tell_of_change();
create trigger tell_of_change after insert or update or delete or truncate on service_whitelist
    for each statement execute function tell_of_change();
create trigger tell_of_change after insert or update or delete or truncate on user_to_service
    for each statement execute function tell_of_change();
create trigger tell_of_change after insert or update or delete or truncate on users
    for each statement execute function tell_of_change();
create trigger tell_of_change after insert or update or delete or truncate on rates
    for each statement execute function tell_of_change();
