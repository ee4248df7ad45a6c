"""Models of others: a function, an ONNX file, a module of torch, a folder of Hugging Face's, as a `FunctionModel`."""
