//! A provider of a few lines: it notes each request and plays one answer at a time, well-formed or not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

#[derive(Clone, Debug)]
pub enum Answer {
    Http {
        status: u16,
        /// Further header lines, each with its line end.
        headers: String,
        body: String,
        /// The connection ends before as many bytes as promised.
        truncate: bool,
    },
    Close,
    Hang,
}

impl Answer {
    pub fn text(status: u16, body: &str) -> Self {
        Self::Http {
            status,
            headers: String::new(),
            body: body.to_owned(),
            truncate: false,
        }
    }

    pub fn success(provider: &str) -> Self {
        Self::text(
            200,
            match provider {
                "firetext" => r#"{"description":"SMS successfully queued","code":0}"#,
                "mmg" => r#"{"Reference":1}"#,
                _ => {
                    "<SendRawEmailResponse xmlns=\"http://ses.amazonaws.com/doc/2010-12-01/\"><SendRawEmailResult>\
                     <MessageId>ses-message-id-1</MessageId></SendRawEmailResult></SendRawEmailResponse>"
                }
            },
        )
    }
}

#[derive(Clone, Debug)]
pub struct Request {
    head: String,
    pub body: Vec<u8>,
}

impl Request {
    /// The first line.
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub fn form(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(&self.body).into_owned().collect()
    }
}

pub struct Server {
    pub address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub async fn start(answer: Answer) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer)
    }

    pub fn start_on(listener: TcpListener, answer: Answer) -> Self {
        let address = listener.local_addr().unwrap();
        let (answer, requests) = (Arc::new(Mutex::new(answer)), Arc::default());
        let (played, noted) = (Arc::clone(&answer), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&played), Arc::clone(&noted)));
            }
        });
        Self {
            address,
            answer,
            requests,
        }
    }

    /// From the next request on.
    pub fn play(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<Mutex<Answer>>, requests: Arc<Mutex<Vec<Request>>>) {
    let Some(request) = read(&mut stream).await else {
        return;
    };
    requests.lock().unwrap().push(request);
    let answer = answer.lock().unwrap().clone();
    match answer {
        Answer::Http {
            status,
            headers,
            body,
            truncate,
        } => {
            let length = body.len() + if truncate { 10 } else { 0 };
            let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Answer::Close => {}
        Answer::Hang => {
            // Until the client gives up.
            let _ = stream.read_u8().await;
        }
    }
}

pub async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut data = Vec::new();
    loop {
        if stream.read_buf(&mut data).await.ok()? == 0 {
            return None;
        }
        let Some(end) = data.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8(data[..end].to_vec()).unwrap();
        let request = Request {
            head,
            body: data[end + 4..].to_vec(),
        };
        let length: usize = request.header("content-length").map_or(0, |text| text.parse().unwrap());
        if request.body.len() >= length {
            return Some(request);
        }
    }
}

/// An address where nobody listens.
pub async fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// A listener whose queue is full, so that the kernel leaves further connections unanswered.
pub struct FullBacklog {
    pub address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

pub async fn full_backlog() -> FullBacklog {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(std::time::Duration::from_millis(100), TcpStream::connect(address)).await
    {
        waiting.push(stream);
    }
    FullBacklog {
        address,
        _listener: listener,
        _waiting: waiting,
    }
}
