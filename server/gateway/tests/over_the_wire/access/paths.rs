//! Paths that are almost those of methods, sent as raw HTTP/2: none may reach a handler, and none may be a way around
//! the roles.

use super::server_of_roles;
use crate::running_server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).expect("short").to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header that is written out: nothing is packed, so that nothing is mended.
fn header(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        out.push(u8::try_from(text.len()).expect("short") & 0x7f);
        out.extend(text.as_bytes());
    }
    out
}

/// The answer to one call with this path: the first byte of its headers, or none when the stream or connection was cut.
async fn ask(server: &Server, path: &str, key: &str) -> Option<u8> {
    let mut socket = TcpStream::connect(server.addr).await.expect("connects");
    let headers = [
        header(":method", "POST"),
        header(":scheme", "http"),
        header(":path", path),
        header(":authority", "localhost"),
        header("content-type", "application/grpc"),
        header("te", "trailers"),
        header("x-api-key", key),
    ]
    .concat();
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    out.extend(frame(4, 0, 0, &[]));
    out.extend(frame(1, 4, 1, &headers));
    // An empty message, and the end.
    out.extend(frame(0, 1, 1, &[0, 0, 0, 0, 0]));
    socket.write_all(&out).await.expect("sends");
    loop {
        let mut head = [0; 9];
        let read =
            tokio::time::timeout(std::time::Duration::from_secs(20), socket.read_exact(&mut head)).await;
        read.expect("an answer, or an end").ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        socket.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], stream) {
            (1, 1) => return payload.first().copied(),
            (3, 1) | (7, _) => return None,
            _ => {}
        }
    }
}

/// `:status 200` and `:status 404`, as the table of HPACK has them.
const OK: u8 = 0x88;
const NOT_FOUND: u8 = 0x8d;

async fn calls(server: &Server) -> String {
    let text = server.http("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let is_ours = |line: &&str| line.contains("service=\"coretex.v1") && line.contains("_count{");
    text.lines().filter(is_ours).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn malformed_paths_reach_no_handler() {
    let server = server_of_roles().await;
    assert_eq!(ask(&server, "/coretex.v1.AdminService/GetServerInfo", "admin").await, Some(OK));
    let before = calls(&server).await;
    assert!(before.contains("GetServerInfo"), "{before}");
    for path in [
        "coretex.v1.AdminService/GetServerInfo",
        "//coretex.v1.AdminService/GetServerInfo",
        "/coretex.v1.AdminService//GetServerInfo",
        "/coretex.v1.AdminService/GetServerInfo/",
        "/coretex.v1.AdminService/GetServerInfo.",
        "/coretex.v1.AdminService./GetServerInfo",
        "/.coretex.v1.AdminService/GetServerInfo",
        "/coretex.v1.AdminService/%47etServerInfo",
        "/coretex%2ev1.AdminService/GetServerInfo",
        "/coretex.v1.AdminService%2FGetServerInfo",
        "/coretex.v1.AdminService/GetServerInfo%00",
        "/./coretex.v1.AdminService/GetServerInfo",
        "/x/../coretex.v1.AdminService/GetServerInfo",
        "/coretex.v1.AdminService/../AdminService/GetServerInfo",
        "/coretex.v1.AdminService/GetServerInfo;x",
        "/coretex.v1.AdminService\\GetServerInfo",
        "/coretex.v1.AdminService/Get ServerInfo",
        "/coretex.v1.AdminService",
        "/GetServerInfo",
        "/",
        "",
        "*",
        "/coretex.v1.AdminService/GetServerInfo\t",
        "http://localhost/x/coretex.v1.AdminService/GetServerInfo",
    ] {
        let answer = ask(&server, path, "admin").await;
        assert!(matches!(answer, None | Some(NOT_FOUND)), "{path:?}: {answer:x?}");
    }
    // Well-formed, and the name of nothing: UNIMPLEMENTED, which HTTP calls 200.
    for path in [
        "/coretex.v1.adminservice/getserverinfo",
        "/CORETEX.V1.ADMINSERVICE/GETSERVERINFO",
        "/coretex.v1.AdminService/getServerInfo",
        "/coretex.v1.AdminService/GetServerInfoX",
        "/grpc.health.v1.Healthy/Check",
    ] {
        assert_eq!(ask(&server, path, "admin").await, Some(OK), "{path:?}");
    }
    assert_eq!(calls(&server).await, before, "no method was called");
    server.stop().await;
}
