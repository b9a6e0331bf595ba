//! Messages for calls that come by the thousand: buffers of the size that most of them need, where the library's own
//! codec takes 8 KiB each way for every call.

use std::marker::PhantomData;

use bytes::BufMut;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Bytes that a buffer begins with.
const BUFFER: usize = 512;
/// Bytes of messages that go out together on a stream.
const YIELD: usize = 32 << 10;

/// The codec of answers `A` to requests `R`.
pub(crate) struct Lean<A, R>(PhantomData<(A, R)>);

impl<A, R> Default for Lean<A, R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<A, R> Codec for Lean<A, R>
where
    A: Message + Send + 'static,
    R: Message + Default + Send + 'static,
{
    type Encode = A;
    type Decode = R;
    type Encoder = Lean<A, ()>;
    type Decoder = Lean<(), R>;

    fn encoder(&mut self) -> Self::Encoder {
        Lean::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Lean::default()
    }
}

impl<A: Message> Encoder for Lean<A, ()> {
    type Item = A;
    type Error = Status;

    fn encode(&mut self, item: A, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // Large answers are written in place, without growing step by step.
        buf.reserve(item.encoded_len());
        debug_assert!(buf.remaining_mut() >= item.encoded_len());
        item.encode_raw(buf);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, YIELD)
    }
}

impl<R: Message + Default> Decoder for Lean<(), R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        // The code that gRPC's own libraries give for what cannot be read.
        R::decode(buf).map(Some).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, YIELD)
    }
}
