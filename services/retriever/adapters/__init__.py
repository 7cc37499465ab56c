"""The retriever's rows and its vector store."""
