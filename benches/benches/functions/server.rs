//! The function, in a process of `logship function serve`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{TASK, program};

/// A process of `logship function serve`.
pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(application: &Path, cache: &Path) -> Self {
        Self::start_with(application, cache, &[])
    }

    pub(crate) fn start_with(application: &Path, cache: &Path, options: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.args(["function", "serve", "--listen", "127.0.0.1:0"]).args(options).arg(application);
        command.arg("--cache").arg(cache.join("program"));
        let mut process = command.stdout(Stdio::piped()).spawn().expect("started");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let address = line.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
        Self { process, address }
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_nodelay(true).expect("a socket");
        Client { reader: BufReader::with_capacity(1 << 20, stream.try_clone().expect("a socket")), stream }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("ended");
    }
}

/// A keep-alive connection.
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
    stream: TcpStream,
}

impl Client {
    pub(crate) fn call(&mut self, body: &[u8]) -> usize {
        let head = format!(
            "POST /v1/ship/lake HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
             x-logship-task: {}_{}\r\nContent-Length: {}\r\n\r\n",
            TASK.created,
            TASK.number,
            body.len()
        );
        self.stream.write_all(head.as_bytes()).and_then(|()| self.stream.write_all(body)).expect("sent");
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a response");
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            self.reader.read_line(&mut line).expect("a header");
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().expect("a number");
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).expect("a body");
        body.len()
    }
}
