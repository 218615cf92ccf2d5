//! What stands before the processes of the API: each new connection goes to one of them, by turns. Those that are open
//! stay until their process ends them, as behind a balancer that drains.

use std::sync::{Arc, Mutex};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

#[derive(Clone, Default)]
pub struct Balancer(Arc<Mutex<Vec<String>>>);

impl Balancer {
    /// Listens where clients and providers look for the API.
    pub async fn at(url: &str) -> Self {
        let balancer = Self::default();
        let listener = TcpListener::bind(url.trim_start_matches("http://")).await.unwrap();
        let apis = balancer.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(apis.clone().pass(client));
            }
        });
        balancer
    }

    pub fn add(&self, api: &str) {
        self.0
            .lock()
            .unwrap()
            .push(api.trim_start_matches("http://").to_owned());
    }

    /// No new connection goes there.
    pub fn remove(&self, api: &str) {
        self.0
            .lock()
            .unwrap()
            .retain(|address| *address != api.trim_start_matches("http://"));
    }

    async fn pass(self, mut client: TcpStream) {
        let Some(api) = self.next() else { return };
        if let Ok(mut api) = TcpStream::connect(api).await {
            let _ = (client.set_nodelay(true), api.set_nodelay(true));
            let _ = copy_bidirectional(&mut client, &mut api).await;
        }
    }

    fn next(&self) -> Option<String> {
        let mut apis = self.0.lock().unwrap();
        if !apis.is_empty() {
            apis.rotate_left(1);
        }
        apis.last().cloned()
    }
}
