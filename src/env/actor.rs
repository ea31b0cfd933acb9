//! Starting actors. An actor's context is a plain future, so it runs on any executor that takes local tasks.

use actix::{Actor, Addr, Context};

/// Starts an actor on this thread: `make` gets the context, so that it can hand out the actor's address.
pub fn start<A>(make: impl FnOnce(&mut Context<A>) -> A) -> Addr<A>
where
    A: Actor<Context = Context<A>>,
{
    use actix::AsyncContext;
    let mut context = Context::new();
    let actor = make(&mut context);
    let address = context.address();
    super::spawn_local(context.into_future(actor));
    address
}

/// Runs an actor that uses no sockets on a thread of its own.
pub fn run_actor<A>(name: &'static str, actor: A) -> super::ThreadHandle
where
    A: Actor<Context = Context<A>> + Send,
{
    super::world::thread_without_sockets(name, move || async move {
        Context::new().into_future(actor).await;
    })
}

/// Runs an actor on a thread of its own at the lowest priority.
pub fn run_actor_in_background<A>(name: &'static str, actor: A) -> super::ThreadHandle
where
    A: Actor<Context = Context<A>> + Send,
{
    super::thread(name, 1, move || async move {
        super::world::yield_to_all();
        Context::new().into_future(actor).await;
    })
}
