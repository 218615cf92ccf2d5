//! Serves connections until told to stop. Slow and vanished clients cost a task each, never a worker.
//!
//! poem's own server has no limit on the time that a request's head may take, and spins when the process is out of
//! file descriptors; so connections are driven here, by the same hyper beneath.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use poem::{
    Endpoint, Request, Response,
    http::uri::Scheme,
    web::{LocalAddr, RemoteAddr},
};
use tokio::net::{TcpListener, TcpStream};

/// How long a connection may be idle, or take to send a request's head. Longer than the 60 seconds after which the
/// usual load balancers close idle connections, so that it is they who do it, never in the middle of a request.
const HEAD_PATIENCE: Duration = Duration::from_secs(65);

/// The largest head: request line and headers.
const HEAD_BYTES: usize = 64 * 1024;

/// Answers requests on `listener` until `shutdown`, then finishes the requests that were accepted, for `grace` at
/// most.
pub async fn run(
    listener: TcpListener,
    endpoint: impl Endpoint<Output = Response> + 'static,
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) {
    let local = listener.local_addr().ok();
    let endpoint = Arc::new(endpoint);
    let connections = GracefulShutdown::new();
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_BYTES);

    tokio::pin!(shutdown);
    loop {
        let (stream, remote) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut shutdown => break,
        };
        let endpoint = Arc::clone(&endpoint);
        let addresses = (LocalAddr(local.unwrap_or(remote).into()), RemoteAddr(remote.into()));
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let (local, remote) = addresses.clone();
            let endpoint = Arc::clone(&endpoint);
            async move {
                let request = Request::from((request, local, remote, Scheme::HTTP));
                let response: hyper::Response<_> = endpoint.get_response(request).await.into();
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let connection = connections.watch(server.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }

    drop(listener);
    if tokio::time::timeout(grace, connections.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time; they are cut off");
    }
}

/// The next connection. Errors are waited out: they are the client's, or pass (too many open files).
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection broke before its first request");
                    continue;
                }
                return (stream, remote);
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use poem::{EndpointExt, IntoResponse, endpoint::make};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::oneshot,
        task::JoinHandle,
    };

    use super::*;

    async fn answer(request: Request) -> poem::Result<Response> {
        Ok(request.into_body().into_string().await?.into_response())
    }

    /// A server that answers with what it is sent.
    async fn echo(grace: Duration) -> (TcpStream, oneshot::Sender<()>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let endpoint = make(answer);
        let running = tokio::spawn(async move {
            run(
                listener,
                endpoint.map_to_response(),
                async { stopped.await.unwrap_or_default() },
                grace,
            )
            .await;
        });
        (client, stop, running)
    }

    #[tokio::test]
    async fn a_request_that_has_begun_is_answered_after_the_signal_to_stop() {
        let (mut client, stop, running) = echo(Duration::from_secs(60)).await;
        client
            .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
            .await
            .unwrap();
        // The body is asked for: the request is being served.
        let mut go_on = [0; 25];
        client.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        stop.send(()).unwrap();
        client.write_all(b"last").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nlast"),
            "{answer}"
        );
        running.await.unwrap();
    }

    #[tokio::test]
    async fn neither_an_idle_connection_nor_an_endless_request_holds_up_the_end() {
        let (idle, stop, running) = echo(Duration::from_secs(60)).await;
        stop.send(()).unwrap();
        running.await.unwrap();
        drop(idle);
        let (mut endless, stop, running) = echo(Duration::from_millis(5)).await;
        endless
            .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n")
            .await
            .unwrap();
        stop.send(()).unwrap();
        running.await.unwrap();
    }
}
