use super::super::scope::{Patience, PeerLimits};
use super::*;

fn limits(request_bytes: usize) -> ConnectionLimits {
    let peers = PeerLimits { first_key: 32000, unproven: 50, proven: |key| if key.0 == 32001 { 200 } else { 60 } };
    ConnectionLimits { clients: usize::MAX, request_bytes, peers, max_idle: None, patience: Patience::default() }
}

fn frames(limit: usize, bytes: &[u8]) -> Frames {
    let mut frames = Frames::new(limits(limit));
    frames.buffer.extend_from_slice(bytes);
    frames
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes()[..], body].concat()
}

#[test]
fn whole_frames_come_in_order_and_half_ones_wait() {
    let bytes = [framed(b"one"), framed(b""), framed(b"three")].concat();
    let mut frames = frames(100, &bytes[..bytes.len() - 1]);
    assert_eq!(frames.next().unwrap().unwrap(), "one");
    assert_eq!(frames.next().unwrap().unwrap(), "");
    assert_eq!(frames.next(), Ok(None));
    assert_eq!(frames.at_end(), CloseReason::HalfRequest);
    frames.buffer.extend_from_slice(b"e");
    assert_eq!(frames.next().unwrap().unwrap(), "three");
    assert_eq!(frames.at_end(), CloseReason::ByClient);
}

#[test]
fn sizes_that_cannot_be() {
    let cases: [(&[u8], FrameError); 6] = [
        (&[0xff, 0xff, 0xff, 0xff], FrameError::Negative(-1)),
        (&[0x80, 0, 0, 0], FrameError::Negative(i32::MIN)),
        (&[0, 0, 0, 101], FrameError::TooLarge { size: 101, limit: 100 }),
        (&[0x7f, 0xff, 0xff, 0xff], FrameError::TooLarge { size: 0x7fff_ffff, limit: 100 }),
        (b"GET / HTTP/1.1", FrameError::Http),
        (&[0x16, 0x03, 0x01, 0x02, 0x00], FrameError::Tls),
    ];
    for (bytes, reason) in cases {
        assert_eq!(frames(100, bytes).next(), Err(reason), "{bytes:?}");
    }
    let mut later = frames(100, &[framed(b"x"), b"GET /".to_vec()].concat());
    assert!(later.next().unwrap().is_some());
    assert!(matches!(later.next(), Err(FrameError::TooLarge { .. })), "only a first request can be HTTP");
}

#[test]
fn requests_between_nodes_have_limits_of_their_own() {
    let first_bytes = |size: i32, key: i16| [&size.to_be_bytes()[..], &key.to_be_bytes()].concat();
    let judged = |request_bytes, proven, bytes: &[u8]| {
        let mut frames = frames(request_bytes, bytes);
        frames.set_proven(proven);
        frames.size()
    };
    let too_large = |size, limit| Err(FrameError::TooLarge { size, limit });
    let peer_too_large = |key, size, limit| Err(FrameError::PeerTooLarge { key, size, limit });
    // A client's request, with and without a hello before it.
    for proven in [false, true] {
        assert_eq!(judged(100, proven, &first_bytes(100, 0)), Ok(Some(100)));
        assert_eq!(judged(100, proven, &first_bytes(101, 31999)), too_large(101, 100));
    }
    // One between nodes: little before the hello, what the API needs after it, whatever a client may send.
    for request_bytes in [10, 100 << 20] {
        assert_eq!(judged(request_bytes, false, &first_bytes(50, 32001)), Ok(Some(50)));
        assert_eq!(judged(request_bytes, false, &first_bytes(51, 32001)), peer_too_large(32001, 51, 50));
        assert_eq!(judged(request_bytes, true, &first_bytes(200, 32001)), Ok(Some(200)));
        assert_eq!(judged(request_bytes, true, &first_bytes(201, 32001)), peer_too_large(32001, 201, 200));
        assert_eq!(judged(request_bytes, true, &first_bytes(61, 32002)), peer_too_large(32002, 61, 60));
    }
    // As long as the API is not known, what any API may have is waited for.
    assert_eq!(judged(10, false, &50_i32.to_be_bytes()), Ok(None));
    assert_eq!(judged(10, false, &51_i32.to_be_bytes()), too_large(51, 10));
    assert_eq!(judged(10, true, &51_i32.to_be_bytes()), Ok(None));
    assert_eq!(judged(100, false, &100_i32.to_be_bytes()), Ok(Some(100)));
    assert_eq!(judged(100, false, &1_i32.to_be_bytes()), Ok(Some(1)));
}

/// Gives what it has in pieces.
struct Pieces(Vec<Vec<u8>>);

impl tokio::io::AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut piece) = (!self.0.is_empty()).then(|| self.0.remove(0)) else { return Poll::Ready(Ok(())) };
        let rest = piece.split_off(piece.len().min(buf.remaining()));
        buf.put_slice(&piece);
        if !rest.is_empty() {
            self.0.insert(0, rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Pieces {
    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn read_all(frames: &mut Frames, from: &mut Pieces) -> Vec<Bytes> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut all = Vec::new();
    loop {
        while let Some(frame) = frames.next().unwrap() {
            all.push(frame);
        }
        match frames.poll_fill(&mut cx, from) {
            Poll::Ready(Ok(0)) => return all,
            Poll::Ready(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn any_cut_of_the_stream_gives_the_same_frames() {
    let bodies: Vec<Vec<u8>> = [0usize, 1, 5000, 3 << 20, 100, 70_000].iter().map(|n| vec![*n as u8; *n]).collect();
    let bytes: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
    for step in [997, 1000, 65_536, bytes.len()] {
        let mut from = Pieces(bytes.chunks(step).map(<[u8]>::to_vec).collect());
        let mut frames = Frames::new(limits(10 << 20));
        assert!(read_all(&mut frames, &mut from) == bodies, "in pieces of {step}");
        assert_eq!(frames.at_end(), CloseReason::ByClient);
    }
}

#[test]
fn a_size_alone_allocates_little() {
    let mut frames = Frames::new(limits(100 << 20));
    let mut from = Pieces(vec![(90i32 << 20).to_be_bytes().to_vec(), vec![1], vec![2]]);
    assert!(read_all(&mut frames, &mut from).is_empty());
    assert!(frames.buffer.capacity() <= 4 * STEP, "{}", frames.buffer.capacity());
}

#[test]
fn the_buffer_is_used_again_for_frames_of_one_size() {
    let body = vec![7u8; 300_000];
    let mut frames = Frames::new(limits(1 << 20));
    let mut places = Vec::new();
    let mut from = Pieces((0..4).map(|_| framed(&body)).collect());
    let mut cx = Context::from_waker(std::task::Waker::noop());
    while places.len() < 4 {
        if let Some(frame) = frames.next().unwrap() {
            places.push(frame.as_ptr());
        } else {
            assert!(frames.poll_fill(&mut cx, &mut from).is_ready());
        }
    }
    assert_eq!(places[2], places[3], "a frame that was let go gives its place to the next");
    frames.release_buffer();
    assert!(!frames.is_holding());
}

#[test]
fn the_place_of_a_large_frame_is_not_kept() {
    let body = vec![7u8; 6 << 20];
    let mut frames = Frames::new(limits(10 << 20));
    let mut from = Pieces(vec![framed(&body), framed(b"next")]);
    let all = read_all(&mut frames, &mut from);
    assert_eq!(all.len(), 2);
    assert!(all[0].is_unique(), "the frame alone holds its six megabytes");
}

#[test]
fn memory_is_known_before_a_frame_is_read() {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut memory = |head: &[u8]| {
        let mut frames = Frames::new(limits(100 << 20));
        let mut from = Pieces(vec![head.to_vec()]);
        assert!(frames.poll_fill(&mut cx, &mut from).is_ready());
        frames.memory_to_read()
    };
    let head = |size: i32, key: i16| [&size.to_be_bytes()[..], &key.to_be_bytes(), &[0, 1]].concat();
    assert_eq!(memory(&head(50 << 20, 0)), 50 << 20, "a Produce stays as it is");
    assert_eq!(memory(&head(50 << 20, 3)), 16 * (50 << 20), "a Metadata is decoded");
    assert_eq!(memory(&head(100, 3)), 1600);
    assert!((SMALL..2 * SMALL).contains(&memory(&[3, 0])), "a read of what is not known yet");
}
