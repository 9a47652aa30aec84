//! One loaded model answering requests: prompt, chunked prefill, images encoded ahead, sampling.
