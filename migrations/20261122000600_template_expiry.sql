-- For how many seconds the messages of a template are wanted, where the request does not say: a one-time code that is as old as
-- that is not sent any more. Null: as long as Herald tries at all. The most is what a request may say.
alter table templates add column expires_in integer check (expires_in between 1 and 259200);
