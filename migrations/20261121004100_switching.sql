-- Provider switching as a control plane: what providers do is counted together by all workers; every move of weights
-- says why and upon which numbers; people can pin what they have set; what no move can mend is one alert.
alter table provider_details
    add column pinned boolean not null default false, -- people have set it: no rule moves weights until they lift it
    add column numbers jsonb, -- what the last change was decided upon
    add column changed_by varchar; -- the operator; none: a rule
alter table provider_details_history
    add column pinned boolean not null default false,
    add column numbers jsonb,
    add column changed_by varchar;

-- What providers did, second by second. Each process adds its last second in one statement, so the same numbers are
-- found wherever a decision is made. They are worth a few minutes: nothing is lost with them when the server crashes.
create unlogged table provider_traffic (
    second timestamptz not null, -- by the database's clock
    provider varchar not null, -- the text of notifications.sent_by
    requests integer not null,
    errors integer not null, -- requests that did not end with the provider's yes
    faults integer not null, -- those among them with no answer in time, or a 5xx: the provider's own trouble
    took_ms bigint not null, -- all requests together, each from the call to the end of the answer
    answers integer not null, -- requests that got the head of an answer
    raw_ms bigint not null, -- these together, each from the bytes on their way to the head of the answer
    sends integer not null, -- messages that became `sending`
    waited_ms bigint not null, -- these together, each from its creation until then
    receipts integer not null, -- messages that a receipt settled or moved
    receipts_ms bigint not null, -- these together, each since it was sent
    primary key (second, provider)
) with (fillfactor = 50);

-- What needs a person. A row a kind, raised after so many strikes in a row as its rule has.
create table provider_alerts (
    name varchar primary key,
    strikes integer not null,
    raised boolean not null,
    since timestamptz not null, -- the first strike
    ended_at timestamptz,
    numbers jsonb not null,
    constraint ck_provider_alerts_raised_has_not_ended check (not raised or ended_at is null)
);
