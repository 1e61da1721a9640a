"""Published answer-scoring protocols, one module each: pure rules on (response, question), without a model or luck."""
