"""From a card to images: sources, the drawn suite, the decoded cache, augmentation."""
